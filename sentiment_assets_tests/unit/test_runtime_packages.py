"""The locked set of packages: it fits together, and its files name no registry."""

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-bootstrap.lock")


def locked(name: str) -> dict[str, str]:
    """Package -> version of a lock file, for the Python and the system that run."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line.rstrip(" \\")) for line in lines if line and not line.startswith((" ", "#"))]
    return {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in pins
        if pin.marker is None or pin.marker.evaluate()
    }


def test_the_installed_packages_fit_together() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "check", "--python", sys.executable],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_what_is_installed_is_what_the_lock_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = locked("requirements.lock")
    for line in project["dependencies"]:
        requirement = Requirement(line)
        version = metadata.version(requirement.name)
        assert pins[canonicalize_name(requirement.name)] == version
        assert requirement.specifier.contains(version)


def test_the_development_lock_adds_to_the_lock_and_changes_nothing() -> None:
    base, development = locked("requirements.lock"), locked("requirements-dev.lock")
    assert base.items() <= development.items()
    assert "pytest" in development


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_has_a_hash_and_no_registry_is_named(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index-url" not in text
    assert text.count("--hash=sha256:") >= len(locked(name)) > 0
