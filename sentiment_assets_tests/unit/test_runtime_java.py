"""Which Java is taken, and what a person is told when none fits."""

from pathlib import Path

import pytest

from sentiment_assets.failures import SetupError
from sentiment_assets.runtime.java import find_java


def _java(home: Path, version: str) -> Path:
    """A program that answers like `java -XshowSettings:properties -version`."""
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(
        f"#!/bin/sh\necho '    java.home = {home}' >&2\n"
        f"echo '    java.specification.version = {version}' >&2\n"
    )
    program.chmod(0o755)
    return home


def test_java_home_wins_over_the_usual_places(tmp_path: Path) -> None:
    _java(tmp_path / "jvm" / "java-17", "17")
    chosen = _java(tmp_path / "chosen", "21")
    java = find_java({"JAVA_HOME": str(chosen), "PATH": ""}, [f"{tmp_path}/jvm/*"])
    assert (java.version, java.home) == (21, chosen)


def test_an_unsupported_java_home_is_passed_over_for_a_supported_java(tmp_path: Path) -> None:
    old = _java(tmp_path / "old", "11")
    good = _java(tmp_path / "jvm" / "java-17", "17")
    java = find_java({"JAVA_HOME": str(old), "PATH": ""}, [f"{tmp_path}/jvm/*"])
    assert java.home == good


def test_a_java_on_the_path_is_found(tmp_path: Path) -> None:
    home = _java(tmp_path / "java", "17")
    assert find_java({"PATH": str(home / "bin")}, []).executable == home / "bin" / "java"


def test_java_11_and_java_8_are_named_with_what_to_install(tmp_path: Path) -> None:
    _java(tmp_path / "jvm" / "java-11", "11")
    _java(tmp_path / "jvm" / "java-8", "1.8")
    with pytest.raises(SetupError) as failure:
        find_java({"PATH": ""}, [f"{tmp_path}/jvm/*"])
    message = str(failure.value)
    assert f"Java 11 at {tmp_path}/jvm/java-11" in message
    assert f"Java 8 at {tmp_path}/jvm/java-8" in message
    for system in ("Debian", "Fedora", "macOS", "WSL"):
        assert system in failure.value.next_step


def test_the_stub_that_macos_ships_is_no_java(tmp_path: Path) -> None:
    stub = tmp_path / "stub" / "bin" / "java"
    stub.parent.mkdir(parents=True)
    stub.write_text("#!/bin/sh\necho 'Unable to locate a Java Runtime.' >&2\nexit 1\n")
    stub.chmod(0o755)
    with pytest.raises(SetupError, match="does not start"):
        find_java({"PATH": str(stub.parent)}, [])


def test_no_java_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no Java was found at all"):
        find_java({"PATH": str(tmp_path)}, [])
