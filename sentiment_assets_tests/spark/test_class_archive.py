"""The archive of classes, made by the real Java and used by a session that starts after it."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from sentiment_assets.runtime.class_archive import archive_of
from sentiment_assets.settings import Settings

_WAIT, _STOP = wait_fixed(0.1), stop_after_delay(180)

pytestmark = pytest.mark.spark

_SESSION = """
from sentiment_assets.settings import Settings
from sentiment_assets.spark.session import build_session

spark = build_session(Settings(), role="training", app_name="test")
spark.range(3).write.format("delta").save(str(Settings().root / "rows"))
"""


def test_a_session_maps_its_classes_from_the_archive(settings: Settings, tmp_path: Path) -> None:
    # At once where it is there: `make test` makes it before the tests.
    subprocess.run([sys.executable, "-m", "sentiment_assets.local.class_archive"], check=True, timeout=600)
    if not archive_of(settings).exists():
        pytest.skip("This Java makes no archive of classes.")
    log = tmp_path / "classes"
    environment = os.environ | {
        "SENTIMENT_HOME": str(settings.root),
        "JDK_JAVA_OPTIONS": f"-Xlog:class+load:file={log}-%p.log",
    }
    subprocess.run([sys.executable, "-c", _SESSION], env=environment, check=True, timeout=240)
    # The launcher of spark-submit, a JVM of its own, leaves the smaller one.
    loaded = max(tmp_path.glob("classes-*.log"), key=lambda file: file.stat().st_size).read_text()
    mapped = [line.split()[1] for line in loaded.splitlines() if "shared objects file (top)" in line]
    assert sum(name.startswith("org.apache.spark.") for name in mapped) > 3_000
    assert sum(name.startswith("org.apache.spark.sql.delta.") for name in mapped) > 300


def test_one_that_is_asked_to_end_takes_its_jvm_along(settings: Settings, tmp_path: Path) -> None:
    """With an empty cache of archives, so that there is something to make."""
    cache = tmp_path / "jars"
    cache.mkdir()
    for configuration in ("spark", "broker"):
        (cache / configuration).symlink_to(settings.jar_cache.expanduser().absolute() / configuration)
    environment = os.environ | {"SENTIMENT_HOME": str(settings.root), "SENTIMENT_JAR_CACHE": str(cache)}
    command = [sys.executable, "-m", "sentiment_assets.local.class_archive"]
    with subprocess.Popen(command, env=environment) as process:
        try:
            # A model is there: Python is in the middle of calls of the JVM.
            model = settings.root / "tmp" / "class-archive" / "models" / "pipeline"
            Retrying(retry=retry_if_result(lambda there: not there), wait=_WAIT, stop=_STOP)(model.exists)
            jvm = java_of(process.pid)
        finally:
            process.terminate()
        assert process.wait(timeout=10) == 1
    assert psutil.wait_procs([jvm], timeout=10)[1] == []
    assert not list(cache.glob("classes/*.jsa"))


def java_of(pid: int) -> psutil.Process:
    """The JVM below a process."""
    (java,) = (child for child in psutil.Process(pid).children(recursive=True) if child.name() == "java")
    return java
