"""Compose itself reads docker-compose.yaml; it needs no daemon for that."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from sentiment_assets_tests.deployment.processes import COMPOSE, DOCKER

pytestmark = pytest.mark.deployment


def compose_program() -> list[str] | None:
    """Compose as a plugin of docker, or the program of its own that Debian packages."""
    docker, alone = shutil.which("docker"), shutil.which("docker-compose")
    if docker is not None:
        plugin = [docker, "compose"]
        if subprocess.run([*plugin, "version"], capture_output=True, check=False).returncode == 0:
            return plugin
    return None if alone is None else [alone]


def read_by_compose(environment_file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = compose_program()
    if program is None:
        pytest.skip("Compose is not installed: apt-get install docker-compose")
    # Variables of the caller would win over the file's.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("POSTGRES_", "SENTIMENT_"))
    }
    return subprocess.run(
        [*program, "--env-file", str(environment_file), "--file", str(DOCKER / "docker-compose.yaml"),
         "--profile", "live", "--profile", "x", "--profile", "mongodb", "config", *arguments],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_compose_accepts_the_file_with_the_example_and_a_password(tmp_path: Path) -> None:
    filled = (
        (DOCKER / ".env.example")
        .read_text()
        .replace("\nPOSTGRES_PASSWORD=\n", "\nPOSTGRES_PASSWORD=made-up\n")
    )
    (tmp_path / "env").write_text(filled)
    done = read_by_compose(tmp_path / "env")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert set(yaml.safe_load(done.stdout)["services"]) == set(COMPOSE)


def test_compose_asks_for_a_password() -> None:
    done = read_by_compose(DOCKER / ".env.example", "--quiet")
    assert done.returncode != 0
    assert "choose a password" in done.stderr
