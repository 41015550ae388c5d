"""`make proof-sinks`: a million predictions into PostgreSQL and MongoDB's protocol, with and without kills.

A clean pass gives rows per second. A second pass is broken three times: the sink is killed, the database is killed,
both are killed at once. Count and checksum must be those of the Delta table after each pass. Prints one JSON
object per pass; exits with 1 when one differs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from sentiment_assets.schemas import PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets_tests.peers.databases import MongoServer, PostgresServer
from sentiment_assets_tests.peers.predictions import append, checksum, table_rows

ROWS_A_COMMIT = 10_000
DEADLINE_SECONDS = 350

Server = PostgresServer | MongoServer


def main() -> int:
    """Run the chosen sinks; 0 when all is sound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sinks", nargs="*", default=["postgres", "mongodb"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--passes", nargs="*", default=["clean", "killed"], choices=["clean", "killed"])
    parser.add_argument("--home", type=Path, help="Keep the table here for further calls.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="proof-sinks-") as folder:
        settings = Settings(home=options.home or Path(folder)).prepare()
        table = settings.table(PREDICTIONS.name)
        if not table.exists():
            for first in range(0, options.rows, ROWS_A_COMMIT):
                append(table, first, first + ROWS_A_COMMIT - 1)
        expected = checksum(table_rows(table))
        sound = True
        for name in options.sinks:
            for kind in options.passes:
                # An empty one each time: FerretDB takes minutes to delete a million documents.
                with PostgresServer() if name == "postgres" else MongoServer(settings) as server:
                    figures = (_clean if kind == "clean" else _killed)(settings, server, expected[0])
                    found = checksum(server.rows())
                    sound = sound and found == expected
                    figures |= {"rows": found[0], "same_count": found[0] == expected[0]}
                    figures |= {"same_checksum": found[1] == expected[1]}
                    if isinstance(server, MongoServer):
                        figures |= {"server": server.title}
                    sys.stdout.write(json.dumps({"sink": name, "pass": kind, **figures}) + "\n")
                    sys.stdout.flush()
    return 0 if sound else 1


def _clean(settings: Settings, server: Server, _expected: int) -> dict[str, Any]:
    begun = time.monotonic()
    with _sink(settings, server, "--resync", "--once") as process:
        output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    wall = time.monotonic() - begun
    (state,) = json.loads(output).values()
    return {
        "rows_per_second": round(state["rows"] / state["seconds"]),
        "seconds_reading_and_writing": round(state["seconds"], 1),
        "seconds_of_the_command": round(wall, 1),
    }


def _killed(settings: Settings, server: Server, expected: int) -> dict[str, Any]:
    begun = time.monotonic()
    process = _sink(settings, server, "--resync")
    _await_rows(server, expected // 5, expected)
    process.kill()
    process.wait()
    after_the_sink = _count(server, expected)
    if isinstance(server, MongoServer) and not server.keeps:
        # Only the sink is killed: this server forgets acknowledged writes.
        with _sink(settings, server, "--once") as process:
            process.communicate(timeout=DEADLINE_SECONDS)
        return {
            "rows_when_the_sink_was_killed": after_the_sink,
            "seconds": round(time.monotonic() - begun, 1),
        }

    process = _sink(settings, server)
    _await_rows(server, expected // 2, expected)
    server.stop()
    threading.Event().wait(2.0)
    server.start()
    after_the_database = _count(server, expected)

    _await_rows(server, expected * 4 // 5, expected)
    process.kill()
    server.stop()
    process.wait()
    server.start()
    after_both = _count(server, expected)

    with _sink(settings, server, "--once") as process:
        process.communicate(timeout=DEADLINE_SECONDS)
    return {
        "rows_when_the_sink_was_killed": after_the_sink,
        "rows_when_the_database_was_killed": after_the_database,
        "rows_when_both_were_killed": after_both,
        "seconds": round(time.monotonic() - begun, 1),
    }


def _sink(settings: Settings, server: Server, *options: str) -> "subprocess.Popen[str]":
    secret = (
        {"SENTIMENT_SINK_POSTGRES_DSN": server.dsn.get_secret_value()}
        if isinstance(server, PostgresServer)
        else {"SENTIMENT_SINK_MONGODB_URI": server.uri.get_secret_value()}
    )
    return subprocess.Popen(
        [sys.executable, "-m", "sentiment_assets", "sink", "run", "--json", *options],
        env=os.environ | {"SENTIMENT_HOME": str(settings.root)} | secret,
        stdout=subprocess.PIPE,
        text=True,
    )


def _await_rows(server: Server, least: int, expected: int) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while _count(server, expected) < least:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the sink did not come to {least:,} rows in time")
        threading.Event().wait(0.1)
    # Within a batch, not between two.
    threading.Event().wait(0.5)


def _count(server: Server, expected: int) -> int:
    """Rows in the sink; of MongoDB's protocol those of finished batches."""
    if isinstance(server, MongoServer):
        position = server.position()
        if position is None:
            return 0
        return expected if position["files"] is None else position["files"] * ROWS_A_COMMIT
    found = server.execute("SELECT to_regclass('sentiment.predictions') IS NOT NULL AS there")
    if not found[0]["there"]:
        return 0
    return int(server.execute("SELECT count(*) AS n FROM sentiment.predictions")[0]["n"])


if __name__ == "__main__":
    sys.exit(main())
