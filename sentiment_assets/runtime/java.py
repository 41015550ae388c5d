"""Find a Java that Spark and Kafka can run on, or say what to install.

Belongs here: where Java may live and which versions count.
Does not belong here: what is started with it (``kafka.broker``, ``spark.session``, ``runtime.jars``).
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sentiment_assets.failures import SetupError

SUPPORTED_VERSIONS = (17, 21)
"""Long-term releases that Spark 4.2 supports; Kafka 4.3 needs at least 17."""

USUAL_PLACES = (
    "/usr/lib/jvm/*",
    "/usr/java/*",
    "/opt/java/*",
    "/opt/jdk*",
    "~/.sdkman/candidates/java/*",
    "~/.jdks/*",
    "/Library/Java/JavaVirtualMachines/*/Contents/Home",
    "~/Library/Java/JavaVirtualMachines/*/Contents/Home",
    "/opt/homebrew/opt/openjdk*",
    "/usr/local/opt/openjdk*",
    "/home/linuxbrew/.linuxbrew/opt/openjdk*",
)
"""Where Debian, Fedora, vendors, SDKMAN, IDEs, macOS and Homebrew put Java homes (globs)."""

INSTALL_HINT = (
    "Install Java 17 or 21, or point JAVA_HOME at one. "
    "Debian, Ubuntu, Windows with WSL: sudo apt-get install openjdk-17-jre-headless. "
    "Fedora: sudo dnf install java-21-openjdk-headless. "
    "macOS: brew install openjdk@17. "
    "On Windows, run everything inside WSL."
)


@dataclass(frozen=True)
class Java:
    """A Java that was started once and told its version.

    Attributes
    ----------
    executable
        The ``java`` program.
    home
        What JAVA_HOME should be for it.
    version
        Feature release: 17, 21.
    """

    executable: Path
    home: Path
    version: int


def find_java(environ: Mapping[str, str] | None = None, places: Sequence[str] = USUAL_PLACES) -> Java:
    """Find a supported Java: ``JAVA_HOME``, then ``PATH``, then the usual places.

    Parameters
    ----------
    environ
        Environment to look in; the process's own by default.
    places
        Globs of Java homes.

    Raises
    ------
    SetupError
        When there is none; the message lists what was found instead.
    """
    found: list[str] = []
    seen: set[Path] = set()
    for executable in _candidates(os.environ if environ is None else environ, places):
        resolved = executable.resolve()
        if resolved in seen:
            continue
        seen.add(resolved)
        java = _probe(executable)
        if java is None:
            found.append(f"{executable} which does not start")
        elif java.version in SUPPORTED_VERSIONS:
            return java
        else:
            found.append(f"Java {java.version} at {java.home}")
    wanted = " or ".join(map(str, SUPPORTED_VERSIONS))
    instead = f"found only {', '.join(found)}" if found else "no Java was found at all"
    raise SetupError(f"Spark and Kafka need Java {wanted}: {instead}.", INSTALL_HINT)


def _candidates(environ: Mapping[str, str], places: Sequence[str]) -> Iterator[Path]:
    if home := environ.get("JAVA_HOME"):
        yield from _if_executable(Path(home) / "bin" / "java")
    if on_path := shutil.which("java", path=environ.get("PATH", os.defpath)):
        yield Path(on_path)
    for place in places:
        pattern = Path(place).expanduser()
        for home_folder in sorted(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor)))):
            yield from _if_executable(home_folder / "bin" / "java")


def _if_executable(path: Path) -> Iterator[Path]:
    if path.is_file() and os.access(path, os.X_OK):
        yield path


@cache
def _probe(executable: Path) -> Java | None:
    """Start ``java`` and read its properties: the stub that macOS ships exists, but is no Java."""
    try:
        answer = subprocess.run(
            [str(executable), "-XshowSettings:properties", "-version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    properties: dict[str, str] = {}
    for line in answer.stderr.splitlines():
        name, separator, value = line.partition(" = ")
        if separator:
            properties[name.strip()] = value.strip()
    # Java 8 calls itself 1.8.
    version = properties.get("java.specification.version", "").removeprefix("1.")
    home = properties.get("java.home")
    if home is None or not version.isdigit():
        return None
    return Java(executable=executable, home=Path(home), version=int(version))
