"""Check everything about this machine that can be wrong, and say how to mend it.

Belongs here: one function a check. Does not belong here: mending, and showing the outcome (``cli``).
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from sentiment_assets.failures import SentimentError, SetupError
from sentiment_assets.kafka.client import watermarks
from sentiment_assets.kafka.cluster import BROKER, find_cluster
from sentiment_assets.runtime.jars import PRODUCT, damaged_jars, jar_paths
from sentiment_assets.runtime.java import find_java
from sentiment_assets.runtime.ports import is_free, port_owner
from sentiment_assets.runtime.processes import read_record, recorded_process
from sentiment_assets.settings import Settings, memory_bytes

DISTRIBUTION = "sentiment-assets"
UI_PORT = 3000
MINIMUM_DISK_BYTES = 2 * 2**30
# Web server, daemon, code server and broker take about 1 GiB beside the streaming JVM.
MINIMUM_MEMORY_BYTES = 4 * 2**30
_ROUND_TRIP_SECONDS = 300
_NEEDED = {"delta": ("home", "java", "jars")}
"""Checks that would only repeat the failure of an earlier one."""


@dataclass(frozen=True)
class Check:
    """Outcome of one check.

    Attributes
    ----------
    detail
        What was found.
    fix
        What to do about it; empty when ok.
    """

    name: str
    ok: bool
    detail: str
    fix: str = ""


def run_checks(
    settings: Settings, *, quick: bool = False, on_check: Callable[[Check], None] | None = None
) -> list[Check]:
    """Run all checks; a failed one does not stop the others.

    Parameters
    ----------
    quick
        Start no JVM but for its version, fetch and hash nothing.
    on_check
        Called with each outcome as it is known.

    Returns
    -------
    list of Check
        In the order they ran, cheap ones first.
    """
    checks: list[Check] = []
    for name, look in _checks(settings, quick=quick):
        lacking = [check.name for check in checks if not check.ok and check.name in _NEEDED.get(name, ())]
        try:
            if lacking:
                raise SetupError(f"Not tried without {' and '.join(lacking)}.", "Mend that first.")
            check = Check(name, True, look())
        except SentimentError as error:
            check = Check(name, False, error.what, error.next_step)
        except OSError as error:
            check = Check(name, False, f"{error.strerror or error}.", "Mend that and run it again.")
        checks.append(check)
        if on_check is not None:
            on_check(check)
    return checks


def _checks(settings: Settings, *, quick: bool) -> Iterator[tuple[str, Callable[[], str]]]:
    """Name and check; a check returns what it found or raises what is wrong."""
    yield "python", _python
    yield "packages", _packages
    yield "home", lambda: _home(settings)
    yield "disk", lambda: _disk(settings)
    yield "memory", lambda: _memory(settings)
    yield "port of the UI", lambda: _ui_port(settings)
    yield "port of Kafka", lambda: _kafka_port(settings)
    yield "kafka", lambda: _kafka(settings)
    yield "java", _java
    yield "jars", lambda: _jars(settings, quick=quick)
    if not quick:
        yield "delta", lambda: _delta(settings)


def _python() -> str:
    wanted = metadata.metadata(DISTRIBUTION)["Requires-Python"]
    version = platform.python_version()
    if version not in SpecifierSet(wanted):
        raise SetupError(
            f"Python {version} runs, {wanted} is needed.",
            "Install Python 3.11 or 3.12, then `make clean setup PYTHON=python3.11`.",
        )
    return f"{version} at {sys.executable}"


def _packages() -> str:
    """What is installed against the requirements that pyproject.toml declares."""
    wrong: list[str] = []
    requirements = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or []]
    needed = [one for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    for requirement in needed:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version} instead of {requirement.specifier}")
    if wrong:
        raise SetupError(f"{'; '.join(wrong)}.", "Run `make setup`.")
    spark, delta = metadata.version("pyspark"), metadata.version("delta-spark")
    return f"{len(needed)} as required, among them pyspark {spark} and delta-spark {delta}"


def _home(settings: Settings) -> str:
    settings.prepare()
    try:
        with tempfile.TemporaryFile(dir=settings.run) as file:
            file.write(b"doctor")
    except OSError as error:
        raise SetupError(
            f"The home {settings.root} cannot be written ({error.strerror}).",
            "Make it writable, free some disk, or point SENTIMENT_HOME at another folder.",
        ) from error
    return f"{settings.root} can be written"


def _disk(settings: Settings) -> str:
    folder = next(path for path in (settings.root, *settings.root.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if free < MINIMUM_DISK_BYTES:
        raise SetupError(
            f"Only {_gib(free)} are free at {folder}.",
            f"Free at least {_gib(MINIMUM_DISK_BYTES)}, or point SENTIMENT_HOME at another disk.",
        )
    return f"{_gib(free)} free at {folder}"


def _memory(settings: Settings) -> str:
    memory = psutil.virtual_memory()
    heap = memory_bytes(settings.training_memory)
    if memory.total < MINIMUM_MEMORY_BYTES:
        raise SetupError(
            f"This machine has {_gib(memory.total)} of memory, {_gib(MINIMUM_MEMORY_BYTES)} are needed.",
            "Use a larger machine, or close what else runs.",
        )
    if heap > memory.total * 0.8:
        raise SetupError(
            f"SENTIMENT_TRAINING_MEMORY={settings.training_memory} is too much for {_gib(memory.total)} of memory.",
            "Unset it, or set it to at most half of the memory.",
        )
    return f"{_gib(memory.available)} of {_gib(memory.total)} available, training takes up to {_gib(heap)}"


def _ui_port(settings: Settings) -> str:
    if is_free(UI_PORT, settings.ui_host):
        return f"{UI_PORT} is free"
    owner = port_owner(UI_PORT)
    if recorded_process(read_record(settings, "dagster-webserver")) is not None:
        return f"{UI_PORT} is in use, and this home's web server runs"
    raise SetupError(
        f"Port {UI_PORT} is in use" + (f" by {owner}." if owner else "."),
        "Stop what uses it, or choose another: `make run ARGS='--port 3001'`.",
    )


def _kafka_port(settings: Settings) -> str:
    if settings.kafka_bootstrap:
        return f"not needed, SENTIMENT_KAFKA_BOOTSTRAP={settings.kafka_bootstrap} is used"
    port = settings.kafka_port
    if is_free(port):
        return f"{port} is free"
    if recorded_process(read_record(settings, BROKER)) is not None:
        return f"{port} is in use, and this home's broker runs"
    return f"{port} is in use by {port_owner(port) or 'another program'}; the broker will take another"


def _kafka(settings: Settings) -> str:
    cluster = find_cluster(settings)
    if cluster is None:
        return "the embedded broker is not started; `make run` or `sentiment-assets kafka start` starts it"
    partitions = watermarks(cluster, settings.topic, timeout=5.0)
    messages = sum(high - low for low, high in partitions.values())
    answers = f"{cluster} ({cluster.security()}) answers"
    if not partitions:
        return f"{answers}; the topic {settings.topic} is made at the first start"
    return f"{answers}; topic {settings.topic}, {len(partitions)} partitions, {messages:,} messages"


def _java() -> str:
    java = find_java()
    return f"{java.version} at {java.home}"


def _jars(settings: Settings, *, quick: bool) -> str:
    count = 0
    for configuration in PRODUCT:
        if quick:
            if damaged := damaged_jars(configuration, settings):
                name, reason = next(iter(damaged.items()))
                raise SetupError(
                    f"{len(damaged)} of the jars for {configuration} cannot be used: {name} {reason}.",
                    "They are fetched at the next start; `make setup` does it now.",
                )
            count += len(jar_paths(configuration, settings))
        else:
            count += len(jar_paths(configuration, settings, verify=True))
    return f"{count} in {settings.jar_cache}" + ("" if quick else ", every SHA-256 as locked")


def _delta(settings: Settings) -> str:
    """A round trip in a throw-away folder of the home: two JVMs, none of them in this process."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="doctor-", dir=settings.prepare().root))
    except OSError as error:
        raise SetupError(
            f"No folder can be made in {settings.root} ({error.strerror}).", "Free some disk."
        ) from error
    environment = {
        **os.environ,
        "SENTIMENT_HOME": str(folder / "home"),
        "SENTIMENT_JAR_CACHE": str(settings.jar_cache.expanduser().absolute()),
        # The second compiler would only start to pay when this is over.
        "JAVA_TOOL_OPTIONS": f"{os.environ.get('JAVA_TOOL_OPTIONS', '')} -XX:TieredStopAtLevel=1".strip(),
    }
    try:
        for step in ("write", "read"):
            _run_round_trip([step, str(folder / "table")], environment)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return "12 commits, a restart, OPTIMIZE and time travel gave the rows that were written"


def _run_round_trip(arguments: list[str], environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "sentiment_assets.runtime.delta_round_trip", *arguments]
    fix = (
        "Run `make setup` to bring pyspark, delta-spark and the jars back to the locked versions; "
        "if memory is short, set SENTIMENT_STREAM_MEMORY=1g."
    )
    try:
        answer = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ROUND_TRIP_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SetupError(
            f"Spark and Delta did not {arguments[0]} a small table within {_ROUND_TRIP_SECONDS} s.", fix
        ) from None
    if answer.returncode != 0:
        # The last unindented line of a traceback is the exception; what follows it may be Java's stack.
        lines = [line for line in answer.stderr.splitlines() if line and not line[0].isspace()]
        causes = [line for line in lines if "Error" in line or "Exception" in line]
        cause = (causes or lines or [f"exit status {answer.returncode}"])[-1]
        raise SetupError(f"Spark and Delta could not {arguments[0]} a small table ({cause[:300]}).", fix)


def _gib(number: float) -> str:
    return f"{number / 2**30:.1f} GiB"
