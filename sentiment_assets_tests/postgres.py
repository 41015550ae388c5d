"""A real PostgreSQL server of its own for a test: on a free port of 127.0.0.1, in a temporary folder."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tenacity import Retrying, stop_after_delay, wait_fixed

from sentiment_assets.runtime.ports import free_port

USER, PASSWORD = "tests", "a-password-of-the-tests"


@dataclass(frozen=True)
class Postgres:
    """Where the server listens; ``USER`` may do everything in ``database``."""

    port: int
    database: str
    pid: int
    host: str = "127.0.0.1"


def _programs() -> Path | None:
    """Folder of ``initdb``: on the PATH, or where Debian keeps it off the PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return versions[-1].parent if versions else None


@contextmanager
def postgres_server(folder: Path) -> Iterator[Postgres]:
    """Start a server in ``folder`` and end it; the test is skipped where no PostgreSQL is installed."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    # The server refuses to run as root; Debian's package brings a user for it.
    prefix: list[str] = []
    folder.mkdir(parents=True, exist_ok=True)
    if os.getuid() == 0:
        prefix = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres", "postgres")
        for parent in folder.parents:
            if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
    data, secret, port = folder / "data", folder / "secret", free_port()
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    subprocess.run(
        [*prefix, str(programs / "initdb"), "--pgdata", str(data), "--username", USER, "--auth", "scram-sha-256",
         "--pwfile", str(secret), "--encoding", "UTF8", "--locale", "C", "--no-sync"],
        check=True, capture_output=True, timeout=60, cwd=folder)  # fmt: skip
    log = (folder / "server.log").open("wb")
    server = subprocess.Popen(
        [*prefix, str(programs / "postgres"), "-D", str(data), "-p", str(port), "-c", "listen_addresses=127.0.0.1",
         "-c", f"unix_socket_directories={folder}"], stdout=log, stderr=subprocess.STDOUT, cwd=folder)  # fmt: skip
    environment = os.environ | {"PGPASSWORD": PASSWORD}
    try:
        ready = [str(programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-q"]
        for attempt in Retrying(wait=wait_fixed(0.2), stop=stop_after_delay(30), reraise=True):
            with attempt:
                subprocess.run(ready, check=True, timeout=10)
        subprocess.run(
            [str(programs / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", USER, "work"],
            check=True, capture_output=True, timeout=30, env=environment)  # fmt: skip
        yield Postgres(port, "work", int((data / "postmaster.pid").read_text().split()[0]))
    finally:
        server.terminate()
        server.wait(timeout=30)
        log.close()
