"""The archive of a Spark JVM's classes, from which one needs about a quarter less time until it scores.

Spark loads some 20,000 classes, and Scala links as many lambdas; Java keeps both ready to be mapped into memory (class
data sharing, JEP 350). An archive fits one Java and one class path, which the JVM checks by itself: where it does not
fit, classes are loaded as ever.
Belongs here: where the archive is, and what a JVM is given to use it. Does not belong here: making it
(``local.class_archive``).
"""

import contextlib
import hashlib
import os
import shlex
from importlib.util import find_spec
from pathlib import Path

from sentiment_assets.runtime.jars import jar_paths
from sentiment_assets.runtime.java import Java, find_java
from sentiment_assets.settings import Settings

OPTIONS_OF_JAVA = ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "SPARK_SUBMIT_OPTS")
"""Variables in which a person gives options to each JVM."""

_CLASS_PATHS = ("SPARK_CONF_DIR", "HADOOP_CONF_DIR", "YARN_CONF_DIR", "SPARK_DIST_CLASSPATH")
"""Variables that Spark adds to the class path; a folder with files keeps Java from archiving."""


def archive_of(settings: Settings) -> Path:
    """Where the archive of this Java and these jars is, or would be: in the cache of the jars, shared by all homes.

    Raises
    ------
    SetupError
        When there is no Java, or the jars cannot be fetched.
    OSError
        When a jar cannot be looked at.
    """
    parts = [*_java(find_java()), *map(_stamp, class_path(settings))]
    parts += [os.environ.get(name, "") for name in _CLASS_PATHS]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return settings.jar_cache.expanduser().absolute() / "classes" / f"{key}.jsa"


def class_path(settings: Settings) -> list[Path]:
    """Our jars and Spark's own, in an order that is the same everywhere.

    Only what is on the class path at the start is archived. Spark itself names its folder of jars, whose order is
    another one on another disk, and then no archive would fit.

    Raises
    ------
    SetupError
        When jars cannot be fetched.
    """
    return [*jar_paths("spark", settings), *_spark_jars()]


def sharing_options(settings: Settings) -> list[str]:
    """Options that let a JVM use the archive, quoted as in a shell; none where there is none, or a person chose.

    Raises
    ------
    SetupError
        When there is no Java, or the jars cannot be fetched.
    """
    if is_chosen_by_a_person():
        return []
    try:
        archive = archive_of(settings)
        if not archive.is_file():
            return []
    except OSError:
        return []
    with contextlib.suppress(OSError):
        # Those used last are kept; a read-only cache keeps all.
        os.utime(archive)
    return [shlex.quote(f"-XX:SharedArchiveFile={archive}")]


def is_chosen_by_a_person() -> bool:
    """Whether the environment tells each JVM what to share."""
    chosen = " ".join(os.environ.get(name, "") for name in OPTIONS_OF_JAVA)
    return "SharedArchiveFile" in chosen or "-Xshare" in chosen


def _java(java: Java) -> tuple[str, str]:
    release = java.home / "release"
    told = release.read_text(errors="replace") if release.is_file() else _stamp(java.executable)
    return str(java.home), told


def _spark_jars() -> list[Path]:
    # Found, not imported: that takes half a second.
    spec = find_spec("pyspark")
    home = os.environ.get("SPARK_HOME") or (Path(spec.origin).parent if spec and spec.origin else "")
    return sorted(Path(home).glob("jars/*.jar"))


def _stamp(file: Path) -> str:
    found = file.stat()
    # Seconds: layers of an image keep no more.
    return f"{file} {found.st_size} {int(found.st_mtime)}"
