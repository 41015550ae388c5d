"""Rows for the stream's tables from elsewhere than the topic: staged piece by piece, then one Delta commit a table.

A job (a rescore, a backfill) has a folder of its own in ``SENTIMENT_HOME/staging``: its plan, a folder a piece, and
in the end what became of it. A piece is complete when its folder has its final name, so a job that was killed goes on
where it was. Only the holder of the stream's lock may write the tables: the command itself while no stream runs, else
the running stream, beside its query, whose batches Spark writes meanwhile.
Does not belong here: what the rows are (``rescore``, ``backfill``).
"""

import json
import logging
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deltalake.exceptions import DeltaError
from pyspark.sql import DataFrame, SparkSession

from sentiment_assets.failures import SentimentError, StreamError
from sentiment_assets.lake.log import pin
from sentiment_assets.runtime.files import replace_file
from sentiment_assets.schemas import TABLES
from sentiment_assets.settings import Settings
from sentiment_assets.spark.delta import (
    ensure_table,
    history,
    open_existing,
    read,
    table_version,
    writer_lock,
)
from sentiment_assets.streaming.causes import explained

log = logging.getLogger(__name__)

_PLAN, _READY, _DONE, _FAILED = "plan.json", "ready", "done.json", "failed"
_ANSWERS_SECONDS = 3_600
_PLAN_SECONDS = 6 * 86_400
JOB = "sentiment.job"
"""Key in the commit's user metadata that names the job."""


@dataclass(frozen=True)
class Plan:
    """What a job does, fixed when it first begins.

    Parameters
    ----------
    job
        Its name, the same for the same arguments.
    what
        In words, for the commit and the console.
    model_version
        The model that scores.
    pieces
        Name of each piece -> what it holds, as the job itself understands it.
    replaces
        Table -> SQL condition; its rows are replaced by the staged ones, and every staged row meets it.
    rows
        Table -> rows that the condition finds now; staged rows must be as many, where given.
    table_ids
        Table -> Delta's id of it: after a reset the job means nothing.
    facts
        What else the job has to know when it goes on.
    """

    job: str
    what: str
    model_version: str
    pieces: dict[str, str]
    replaces: dict[str, str]
    rows: dict[str, int] = field(default_factory=dict)
    table_ids: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Names this plan in its commits: the same command may be given again another day."""


class Staging:
    """The folder of one job.

    Parameters
    ----------
    job
        Name of the job.
    """

    def __init__(self, settings: Settings, job: str) -> None:
        self._settings = settings
        self.folder = settings.root / "staging" / job

    def open(self, make: Callable[[], Plan]) -> Plan:
        """The plan of a job that was begun before, else a new one.

        Raises
        ------
        StreamError
            When the plan is damaged, or another version of this program wrote it.
        """
        try:
            return Plan(**json.loads((self.folder / _PLAN).read_text(encoding="utf-8")))
        except FileNotFoundError:
            plan = make()
        except (ValueError, TypeError) as error:
            raise StreamError(
                f"The plan in {self.folder} cannot be read ({type(error).__name__}).",
                "Remove that folder and run the command again.",
            ) from error
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_file(self.folder / _PLAN, json.dumps(asdict(plan)))
        return plan

    def missing(self, plan: Plan) -> list[str]:
        """Pieces that are not complete yet, in order."""
        return [name for name in plan.pieces if not (self.folder / name).is_dir()]

    def write(self, piece: str, frames: Mapping[str, DataFrame]) -> None:
        """Stage one piece: rows by table.

        Raises
        ------
        StreamError
            When Spark fails or the disk is full; what was staged before stays.
        """
        partial = self.folder / f".{piece}"
        shutil.rmtree(partial, ignore_errors=True)
        with explained():
            for table, frame in frames.items():
                frame.write.parquet(str(partial / table))
        partial.rename(self.folder / piece)

    def ready(self) -> None:
        """All pieces are complete: from now on whoever may write the tables commits them."""
        (self.folder / _FAILED).unlink(missing_ok=True)
        (self.folder / _READY).touch()

    def result(self) -> dict[str, int] | None:
        """Table -> version of the commit, once it is done.

        Raises
        ------
        StreamError
            When the commit failed.
        """
        try:
            return dict(json.loads((self.folder / _DONE).read_text(encoding="utf-8")))
        except FileNotFoundError:
            pass
        try:
            reason = (self.folder / _FAILED).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        raise StreamError(
            f"The staged rows could not be committed ({reason}).", "Mend that and run it again."
        )

    def forget_if_stale(self) -> None:
        """Remove what an earlier command left, unless the same command given again means that very job.

        A commit of an hour ago answers a command that was killed while it waited; one of last week does not say what
        the table holds today. A plan reads a version of the table that is kept for a week.
        """
        for name, seconds in ((_DONE, _ANSWERS_SECONDS), (_PLAN, _PLAN_SECONDS)):
            file = self.folder / name
            if file.exists() and time.time() - file.stat().st_mtime > seconds:
                self.forget()

    def forget(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def waiting_jobs(settings: Settings) -> list[str]:
    """Jobs that are staged and not committed; one look into a folder, cheap enough for every second."""
    folder = settings.root / "staging"
    if not folder.is_dir():
        return []
    return sorted(ready.parent.name for ready in folder.glob(f"*/{_READY}"))


def remove_abandoned(settings: Settings) -> int:
    """Remove what jobs staged that nobody went on with for a week; returns how many."""
    removed = 0
    for folder in (settings.root / "staging").glob("*"):
        with suppress(OSError):
            # A piece that is complete changes the folder.
            abandoned = time.time() - folder.stat().st_mtime > _PLAN_SECONDS
            if abandoned and not (folder / _READY).exists():
                shutil.rmtree(folder)
                removed += 1
    return removed


def models_of_jobs(settings: Settings) -> set[str]:
    """Versions that jobs score with which are not done; the same command goes on with them."""
    found = set()
    for plan in (settings.root / "staging").glob(f"*/{_PLAN}"):
        with suppress(OSError, ValueError, KeyError):
            if not (plan.parent / _DONE).exists():
                found.add(str(json.loads(plan.read_text(encoding="utf-8"))["model_version"]))
    return found


def commit_waiting(spark: SparkSession, settings: Settings) -> None:
    """Commit what is staged; only the holder of the stream's lock may call it. A failure is noted, not raised."""
    for job in waiting_jobs(settings):
        staging = Staging(settings, job)
        try:
            versions = _commit(spark, settings, staging)
        except (SentimentError, DeltaError, OSError) as error:
            log.warning("The job %s could not be committed: %s", job, error)
            (staging.folder / _FAILED).write_text(str(error), encoding="utf-8")
        else:
            replace_file(staging.folder / _DONE, json.dumps(versions))
        finally:
            # Whatever happened, the next lease does not stumble over it again.
            (staging.folder / _READY).unlink(missing_ok=True)


def _commit(spark: SparkSession, settings: Settings, staging: Staging) -> dict[str, int]:
    plan = staging.open(_no_plan)
    return {table: _commit_table(spark, settings, staging, plan, table) for table in plan.replaces}


def _no_plan() -> Plan:
    raise StreamError("It has no plan.", "Remove its folder and run it again.")


def _commit_table(spark: SparkSession, settings: Settings, staging: Staging, plan: Plan, name: str) -> int:
    path, table = settings.table(name), TABLES[name]
    ensure_table(path, table)
    known = plan.table_ids.get(name)
    if known is not None and known != str(open_existing(path).metadata().id):
        raise StreamError(
            f"The table {name} was made anew meanwhile.",
            f"Remove {staging.folder} and run the command again.",
        )
    with writer_lock(path), explained():
        version = _committed(path, plan.token)
        if version is not None:
            # Whoever committed it may have been killed before this.
            with suppress(DeltaError):
                _keep_what_was_before(path, version)
            return version
        staged = spark.read.schema(table.spark_schema()).parquet(
            *(str(staging.folder / piece / name) for piece in plan.pieces)
        )
        condition = plan.replaces[name]
        expected = plan.rows.get(name)
        found = (staged.count(), read(spark, path).where(condition).count())
        if expected is not None and found != (expected, expected):
            raise StreamError(
                f"{found[0]:,} rows are staged, {found[1]:,} are in the table and {expected:,} were planned.",
                "Remove SENTIMENT_HOME/staging and run the command again.",
            )
        (
            staged.select(table.column_names)
            .write.format("delta")
            .mode("overwrite")
            .option("replaceWhere", condition)
            .option("userMetadata", json.dumps({JOB: plan.job, "token": plan.token, "what": plan.what}))
            .save(str(path))
        )
        version = _committed(path, plan.token) or table_version(path)
        _keep_what_was_before(path, version)
        return version


def _keep_what_was_before(path: Path, version: int) -> None:
    if version > 0:
        pin(path, version - 1)


def _committed(path: Path, token: str) -> int | None:
    """Version that the plan's commit made, if it is among the newest."""
    for entry in history(path, 200):
        if token in str(entry.get("userMetadata", "")):
            return int(entry["version"])
    return None


def pieces_of(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Begin and end of pieces of ``size`` that make up ``count``."""
    for begin in range(0, count, size):
        yield begin, min(count, begin + size)
