"""Making the archive of classes: a JVM of its own does in small what training and the stream do, and writes it.

A minute, once for each Java and release of the jars. ``up`` does it beside the stream at the lowest
priority, ``make test`` before the tests. Does not belong here: who uses it (``spark.session``).
"""

import argparse
import contextlib
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import psutil
from filelock import FileLock, Timeout

from sentiment_assets.failures import SentimentError, SetupError
from sentiment_assets.runtime.class_archive import archive_of, is_chosen_by_a_person
from sentiment_assets.runtime.files import remove_folder
from sentiment_assets.runtime.processes import ManagedProcess, reap_recorded
from sentiment_assets.settings import Settings
from sentiment_assets.sources.generated import tweets

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

NAME = "class-archive"
"""Of the process that makes it, and of its log."""
_EXIT_SECONDS, _OTHERS_SECONDS = 300, 600
_ROWS, _SEED = 600, 1
_KEPT = 3
_ABANDONED_SECONDS = 3_600


def make_archive(settings: Settings) -> bool:
    """Make the archive of this Java and these jars, unless it is there, was tried in vain, or a person chose another.

    Returns
    -------
    bool
        Whether it is there now. A Java that cannot archive classes is no failure: JVMs start as ever.

    Raises
    ------
    SetupError
        When Java or the jars are missing, or the JVM does not start or fails.
    OSError
        When the disk is full.
    """
    archive = archive_of(settings)
    if not _is_wanted(archive):
        return archive.exists()
    archive.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(archive.with_suffix(".lock"), timeout=_OTHERS_SECONDS):
        if _is_wanted(archive):
            partial = archive.with_suffix(".partial")
            partial.unlink(missing_ok=True)
            status = _run_jvm(settings, partial)
            if status != 0:
                partial.unlink(missing_ok=True)
                raise SetupError(
                    f"The JVM that archives its classes ended with {status}.", "Free some disk or memory."
                )
            if partial.exists():
                partial.replace(archive)
                _forget_old(archive.parent)
            else:
                _in_vain(archive).touch()
    return archive.exists()


class Aside:
    """A process of the lowest priority that makes the archive where it is wanted.

    Parameters
    ----------
    settings
        Name the home, whose earlier process of this kind is ended.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, self._begun = settings, False
        self._process: ManagedProcess | None = None
        reap_recorded(settings, [NAME])

    def begin(self) -> None:
        """Start it, the first time this is called; later calls take note of its end."""
        if not self._begun:
            self._begun = True
            self._process = self._start()
        elif self._process is not None and not self._process.alive:
            self._process = None

    def end(self) -> None:
        """End it, made or not."""
        if self._process is not None:
            self._process.stop(grace_seconds=1)

    def _start(self) -> ManagedProcess | None:
        try:
            if not _is_wanted(archive_of(self._settings)):
                return None
            command = [sys.executable, "-m", "sentiment_assets.local.class_archive", "--aside"]
            env = os.environ | {"SENTIMENT_HOME": str(self._settings.root)}
            return ManagedProcess.start(NAME, command, settings=self._settings, env=env)
        except (SetupError, OSError) as error:
            # A full disk, for one: what runs goes on without it.
            log.warning("No archive of classes is made: %s", error)
            return None


def _is_wanted(archive: Path) -> bool:
    return not is_chosen_by_a_person() and not archive.exists() and not _in_vain(archive).exists()


def _in_vain(archive: Path) -> Path:
    """Says that this Java can make no archive."""
    return archive.with_suffix(".none")


def _run_jvm(settings: Settings, archive: Path) -> int:
    """Let a JVM work and write the archive at its end; returns its exit status."""
    from pyspark import SparkContext

    from sentiment_assets.spark.session import build_session, spark_conf

    if SparkContext._gateway is not None:
        raise SetupError("This process has a JVM already.", "Make the archive in a process of its own.")

    folder = settings.root / "tmp" / NAME
    # Of one that was killed.
    remove_folder(folder)
    try:
        own = Settings(
            home=folder, storage=None, jar_cache=settings.jar_cache, spark_master="local[*]"
        ).prepare()
        name = "spark.driver.extraJavaOptions"
        options = spark_conf(own, role="stream", app_name=NAME)[name]
        spark = build_session(
            own,
            role="stream",
            app_name=NAME,
            extra={name: f"{options} {shlex.quote(f'-XX:ArchiveClassesAtExit={archive}')}"},
        )
        gateway = spark.sparkContext._gateway
        assert gateway is not None  # noqa: S101  a session that runs has its gateway
        jvm = gateway.proc
        try:
            _typical_work(spark, own)
            spark.stop()
            gateway.shutdown()
            # The JVM ends with its standard input, and writes the archive at its end.
            jvm.stdin.close()
            return int(jvm.wait(_EXIT_SECONDS))
        finally:
            jvm.kill()
    finally:
        remove_folder(folder)


def _typical_work(spark: "SparkSession", settings: Settings) -> None:
    """Fit, save, load and compile a model on made-up texts, and score made-up messages by it both ways."""
    from pyspark.ml import PipelineModel

    from sentiment_assets.spark.compiled.export import export_tables
    from sentiment_assets.spark.compiled.model import CompiledModel
    from sentiment_assets.spark.delta import compact
    from sentiment_assets.spark.features import VARIANTS
    from sentiment_assets.spark.training import ALGORITHMS, fit_configurations
    from sentiment_assets.streaming.serving import Served
    from sentiment_assets.streaming.warm_up import rehearse

    rows = [(text, float(target > 0)) for target, *_, text in tweets(_ROWS, _SEED)]
    train = spark.createDataFrame(rows, "text STRING, label DOUBLE").cache()
    algorithm = ALGORITHMS["logistic_regression"]
    fitted = next(
        fit_configurations(VARIANTS["nb_ngrams"], None, [(algorithm, algorithm.defaults)], train, seed=_SEED)
    )
    stored, tables = settings.models / "pipeline", settings.models / "tables"
    fitted.model.write().save(str(stored))
    tables.mkdir()
    export_tables(fitted.model).save(tables)
    scratch = settings.lake / "scratch"
    for model in (PipelineModel.load(str(stored)), CompiledModel(tables, settings.kernel_cache)):
        for _ in range(2):
            rehearse(spark, settings, Served("made-up", model, ""), scratch)
    compact(spark, scratch / "table")
    spark.read.format("delta").load(str(scratch / "table")).groupBy("sentiment").count().collect()


def _forget_old(folder: Path) -> None:
    """Keep what was used last, and nothing that was left half written."""
    used = {file: file.stat().st_mtime for file in folder.glob("*.jsa")}
    for file in sorted(used, key=used.__getitem__)[:-_KEPT]:
        file.unlink(missing_ok=True)
    for file in folder.glob("*.partial"):
        # A younger one may be another checkout's.
        if time.time() - file.stat().st_mtime > _ABANDONED_SECONDS:
            file.unlink(missing_ok=True)


def _end_with_jvm(_number: int, _frame: FrameType | None) -> NoReturn:
    """End at once: an exception would get lost where Python happens to be in a callback of py4j."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(1)


def main() -> int:
    """Make it: ``python -m sentiment_assets.local.class_archive``; exit status 0 or 1."""
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    parser.add_argument("--aside", action="store_true", help="at the lowest priority")
    if parser.parse_args().aside:
        os.nice(19)
        # Where Linux groups processes by session, niceness counts within a group alone.
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text("19")
    signal.signal(signal.SIGTERM, _end_with_jvm)
    try:
        made = make_archive(Settings.from_env())
    except (SentimentError, OSError, Timeout, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"No archive of classes was made; JVMs start as ever. {error}\n")
        return 1
    if not made:
        sys.stderr.write("This Java makes no archive of classes; JVMs start as ever.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
