"""The jars beside those inside pyspark: fetched once with pyspark's own Ivy, verified, shared by all homes.

Belongs here: the lock (``ivy.xml`` names the modules, ``jars.sha256`` their hashes) and the cache it fills.
Does not belong here: which process gets which jar (``spark.session``, ``kafka.broker``).

To move a version: edit ``ivy.xml``, run ``python -m sentiment_assets.runtime.jars --lock``, review the diff.
"""

import argparse
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from typing import Literal, get_args

from filelock import FileLock, Timeout

from sentiment_assets.failures import SetupError
from sentiment_assets.runtime.java import find_java
from sentiment_assets.settings import Settings

logger = logging.getLogger(__name__)

Configuration = Literal["spark", "broker", "mongodb_test"]
PRODUCT: tuple[Configuration, ...] = ("spark", "broker")
"""What an installation needs; the rest is fetched by the tests that use it."""

Progress = Callable[[str], None]

_IVY_XML = Path(__file__).with_name("ivy.xml")
_HASHES = Path(__file__).with_name("jars.sha256")
_FETCH_SECONDS = 1800
# Ivy waits for ever by default; these are Java's own switches, in milliseconds.
_TIMEOUTS = ("-Dsun.net.client.defaultConnectTimeout=20000", "-Dsun.net.client.defaultReadTimeout=60000")
_FETCHED = re.compile(r"\[SUCCESSFUL \] [^#]*#[^;]*;(?P<revision>.*?)!(?P<artifact>.*?)\.jar")


def jar_paths(
    configuration: Configuration,
    settings: Settings,
    on_progress: Progress | None = None,
    *,
    verify: bool = False,
) -> list[Path]:
    """Absolute paths of the verified jars of one configuration, fetched if they are not there.

    The first call hashes every jar and leaves a marker; later calls only ``stat`` them, take no lock, and so
    work on a read-only cache (a container image). Several processes may call at once.

    Parameters
    ----------
    configuration
        ``"spark"`` (Delta, Kafka connector), ``"broker"`` (Apache Kafka), or ``"mongodb_test"`` (a server that
        speaks MongoDB's protocol, for tests alone).
    on_progress
        Called with one line of text a fetched jar.
    verify
        Hash every jar again, marker or not.

    Raises
    ------
    SetupError
        When there is no Java, when jars cannot be fetched, or when fetching a damaged one again did not help.
    """
    expected = _expected(configuration)
    folder = settings.jar_cache.expanduser().absolute() / configuration
    problems = damaged_jars(configuration, settings, verify=verify)
    if problems:
        report = on_progress or (lambda _line: None)
        with _locked(settings, report):
            # Another process may have filled the cache while this one waited for the lock.
            problems = damaged_jars(configuration, settings, verify=verify)
            if problems:
                _fetch(configuration, settings, problems, report)
    return [folder / name for name in sorted(expected)]


def jar_names(configuration: Configuration) -> list[str]:
    """File names of the jars of one configuration; nothing is fetched."""
    return sorted(_expected(configuration))


def damaged_jars(configuration: Configuration, settings: Settings, *, verify: bool = False) -> dict[str, str]:
    """What is wrong with the cache: file name -> reason; empty when all jars can be used.

    Parameters
    ----------
    verify
        Compare hashes (about 0.3 s for all jars); else sizes, once a marker vouches for the hashes.
    """
    expected = _expected(configuration)
    folder = settings.jar_cache.expanduser().absolute() / configuration
    sizes = {} if verify else _marked_sizes(configuration, settings)
    problems: dict[str, str] = {}
    for name, digest in sorted(expected.items()):
        try:
            size = (folder / name).stat().st_size
            if name in sizes:
                if size != sizes[name]:
                    problems[name] = f"has {size} bytes instead of {sizes[name]}"
            elif _sha256(folder / name) != digest:
                problems[name] = "does not have the expected SHA-256"
        except FileNotFoundError:
            problems[name] = "is missing"
        except OSError as error:
            problems[name] = f"cannot be read ({error.strerror})"
    if not problems and not sizes:
        _write_marker(configuration, settings)
    return problems


def _fetch(
    configuration: Configuration, settings: Settings, problems: dict[str, str], report: Progress
) -> None:
    expected = _expected(configuration)
    cache = settings.jar_cache.expanduser().absolute()
    for name, reason in problems.items():
        if reason != "is missing":
            logger.warning("The jar %s in %s %s; fetching it again.", name, cache / configuration, reason)
            report(f"The jar {name} {reason}: fetching it again")
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as staging:
        _run_ivy(configuration, settings, Path(staging), problems, report)
        wrong: dict[str, str] = {}
        for name in problems:
            if difference := _difference(Path(staging) / configuration / name, expected[name]):
                wrong[name] = difference
        # Ivy keeps what it fetched: good after an interruption, bad once a file is known to be wrong.
        shutil.rmtree(cache / "ivy", ignore_errors=True)
        if wrong:
            listing = "; ".join(f"{name} {reason}" for name, reason in wrong.items())
            raise SetupError(
                f"Jars were fetched, but are not what this version was built with: {listing}.",
                "Check the mirror or proxy in between (SENTIMENT_IVY_SETTINGS), then run the command again.",
            )
        (cache / configuration).mkdir(exist_ok=True)
        for name in problems:
            (Path(staging) / configuration / name).replace(cache / configuration / name)
    _write_marker(configuration, settings)


def _run_ivy(
    configuration: Configuration, settings: Settings, staging: Path, wanted: Iterable[str], report: Progress
) -> None:
    """Let Ivy retrieve into ``staging/<configuration>/``; a second try goes on where the first broke off."""
    if settings.ivy_settings and not settings.ivy_settings.is_file():
        raise SetupError(
            f"The file {settings.ivy_settings} does not exist.",
            "Set SENTIMENT_IVY_SETTINGS to an ivysettings.xml, or unset it.",
        )
    wanted = set(wanted)
    cache = settings.jar_cache.expanduser().absolute()
    command = [
        str(find_java().executable),
        *_TIMEOUTS,
        f"-Divy.default.ivy.user.dir={cache / 'ivy'}",
        "-jar",
        str(_ivy_jar()),
        *(["-settings", str(settings.ivy_settings)] if settings.ivy_settings else []),
        *("-ivy", str(_IVY_XML)),
        *("-cache", str(cache / "ivy")),
        *("-confs", configuration),
        *("-retrieve", f"{staging}/[conf]/[artifact]-[revision].[ext]"),
        *("-types", "jar", "bundle"),
    ]
    report(f"Fetching {len(wanted)} jar{'s' * (len(wanted) != 1)} ({configuration}) into {cache}")
    tail: deque[str] = deque(maxlen=200)
    for _attempt in range(2):
        tail.clear()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as ivy:
            watchdog = Timer(_FETCH_SECONDS, ivy.kill)
            watchdog.start()
            try:
                assert ivy.stdout is not None  # noqa: S101  (stdout=PIPE)
                done = 0
                for line in ivy.stdout:
                    tail.append(line.strip())
                    fetched = _FETCHED.search(line)
                    if fetched and (name := f"{fetched['artifact']}-{fetched['revision']}.jar") in wanted:
                        done += 1
                        report(f"Fetched {name} ({done} of {len(wanted)})")
            except BaseException:
                ivy.kill()
                raise
            finally:
                watchdog.cancel()
        if all((staging / configuration / name).is_file() for name in wanted):
            return
    raise SetupError(
        f"The jars for {configuration} could not be fetched ({_cause(tail)}).",
        "Maven Central must be reachable, or SENTIMENT_IVY_SETTINGS must name an ivysettings.xml that points "
        "at a mirror. Behind a proxy, set JAVA_TOOL_OPTIONS='-Dhttps.proxyHost=HOST -Dhttps.proxyPort=PORT'. "
        "What was fetched so far is kept.",
    )


def _cause(lines: Iterable[str]) -> str:
    """Why Ivy failed, from its output: the server's answer before Ivy's conclusion from it."""
    output = list(lines)
    for pattern in (
        r"\((java\.\S*Exception.*)\)",
        r"(Host \S+ not found)",
        r"(module not found: .*)",
        r"(.*rror.*)",
    ):
        for line in output:
            if found := re.search(pattern, line):
                return found[1].strip()[:200]
    return "Ivy gave no reason"


def _difference(path: Path, digest: str) -> str | None:
    if not path.is_file():
        return "is missing"
    actual = _sha256(path)
    return None if actual == digest else f"has SHA-256 {actual} instead of {digest}"


def _expected(configuration: Configuration) -> dict[str, str]:
    """File name -> SHA-256 of one configuration, from ``jars.sha256`` (the format of ``sha256sum``)."""
    hashes: dict[str, str] = {}
    for line in _HASHES.read_text(encoding="utf-8").splitlines():
        digest, name = line.split()
        folder, _, file = name.partition("/")
        if folder == configuration:
            hashes[file] = digest
    return hashes


def _lock_digest() -> str:
    return hashlib.sha256(_IVY_XML.read_bytes() + _HASHES.read_bytes()).hexdigest()[:16]


def _marker(configuration: Configuration, settings: Settings) -> Path:
    cache = settings.jar_cache.expanduser().absolute()
    return cache / f"verified-{configuration}-{_lock_digest()}.json"


def _marked_sizes(configuration: Configuration, settings: Settings) -> dict[str, int]:
    """Sizes of the jars whose hashes were right once; empty without a (readable) marker for this lock."""
    try:
        sizes = json.loads(_marker(configuration, settings).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return sizes if isinstance(sizes, dict) and sizes.keys() == _expected(configuration).keys() else {}


def _write_marker(configuration: Configuration, settings: Settings) -> None:
    marker = _marker(configuration, settings)
    folder = marker.parent / configuration
    sizes = {name: (folder / name).stat().st_size for name in _expected(configuration)}
    try:
        partial = marker.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(sizes, indent=1), encoding="utf-8")
        partial.replace(marker)
    except OSError as error:
        logger.debug("No marker in the read-only jar cache %s: %s", marker.parent, error)


@contextmanager
def _locked(settings: Settings, report: Progress) -> Iterator[None]:
    cache = settings.jar_cache.expanduser().absolute()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = FileLock(cache / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            report("Another process is fetching jars: waiting for it")
            lock.acquire(timeout=2 * _FETCH_SECONDS)
    except OSError as error:
        raise SetupError(
            f"The jar cache {cache} cannot be used ({error.strerror or error}).",
            "Make it writable, free some disk, or point SENTIMENT_JAR_CACHE at another folder.",
        ) from error
    try:
        yield
    except OSError as error:
        raise SetupError(
            f"The jar cache {cache} cannot be written ({error.strerror or error}).",
            "Free some disk, or point SENTIMENT_JAR_CACHE at another folder.",
        ) from error
    finally:
        lock.release()


def _ivy_jar() -> Path:
    """The Ivy inside pyspark, found without importing pyspark."""
    spec = find_spec("pyspark")
    places = (spec.submodule_search_locations or []) if spec else []
    for place in places:
        for jar in sorted(Path(place, "jars").glob("ivy-*.jar")):
            return jar
    raise SetupError("pyspark is not installed, or has no Ivy among its jars.", "Run `make setup`.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lock(settings: Settings, report: Progress) -> None:
    """Write ``jars.sha256`` anew from what Ivy retrieves for ``ivy.xml``."""
    lines: list[str] = []
    with (
        _locked(settings, report),
        tempfile.TemporaryDirectory(prefix=".lock-", dir=settings.jar_cache) as staging,
    ):
        for configuration in sorted(get_args(Configuration)):
            _run_ivy(configuration, settings, Path(staging), (), report)
            jars = sorted(Path(staging, configuration).glob("*.jar"))
            lines += [f"{_sha256(jar)}  {configuration}/{jar.name}\n" for jar in jars]
    _HASHES.write_text("".join(lines), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Fetch and verify the product's jars (images, CI caches), or write the lock anew; exit status 0 or 1."""
    parser = argparse.ArgumentParser(prog="python -m sentiment_assets.runtime.jars", description=main.__doc__)
    parser.add_argument("--lock", action="store_true", help="write jars.sha256 from ivy.xml")
    options = parser.parse_args(arguments)

    def report(line: str) -> None:
        sys.stderr.write(line + "\n")

    try:
        settings = Settings.from_env()
        if options.lock:
            _lock(settings, report)
        for configuration in PRODUCT:
            jar_paths(configuration, settings, report, verify=True)
    except SetupError as error:
        report(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
