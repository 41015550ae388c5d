"""Live sources and sinks on the command line: what is missing is named, secrets are not."""

import json
import os
import subprocess
import sys

from sentiment_assets.settings import Settings
from sentiment_assets_tests.peers.x_api import TOKEN, Refusal, XPeer, send, stay


def run(settings: Settings, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sentiment_assets", *arguments],
        env=os.environ | {"SENTIMENT_HOME": str(settings.root), "COLUMNS": "200"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_x_without_a_token_names_the_variable(settings: Settings) -> None:
    result = run(settings, "ingest", "x")
    assert result.returncode == 1
    assert "SENTIMENT_X_BEARER_TOKEN" in result.stderr


def test_a_sink_that_is_not_switched_on_names_the_variables(settings: Settings) -> None:
    result = run(settings, "sink", "run", "--once")
    assert result.returncode == 1
    assert "SENTIMENT_SINK_POSTGRES_DSN or SENTIMENT_SINK_MONGODB_URI" in result.stderr


def test_the_token_is_nowhere_in_the_output_or_the_home(settings: Settings) -> None:
    """At the most talkative level, on the good path and on a refusal."""
    peer_of = {"SENTIMENT_X_BEARER_TOKEN": TOKEN, "SENTIMENT_LOG_LEVEL": "DEBUG"}
    with XPeer([send(50), stay]) as peer:
        good = run(
            settings,
            "ingest",
            "x",
            "--rule",
            "a",
            "--limit",
            "50",
            "--json",
            SENTIMENT_X_API_URL=peer.url,
            **peer_of,
        )
    with XPeer(Refusal(403, {"title": "Client Forbidden"})) as peer:
        bad = run(settings, "ingest", "x", "--rule", "a", SENTIMENT_X_API_URL=peer.url, **peer_of)
    # No broker runs: the posts are kept, and the end is no success.
    assert good.returncode == 1, good.stderr
    assert "50 posts of x are kept in the spool" in good.stderr
    assert "ingest spool x" in good.stderr
    assert json.loads(good.stdout)["spooled"] == 50
    assert bad.returncode == 1
    assert "403: Client Forbidden" in bad.stderr
    assert TOKEN not in good.stdout + good.stderr + bad.stdout + bad.stderr
    secret = TOKEN.encode()
    assert not [path for path in settings.root.rglob("*") if path.is_file() and secret in path.read_bytes()]


def test_a_database_that_is_down_is_a_status_and_not_a_failure(settings: Settings) -> None:
    dsn = "postgresql://tester:made-up-password@127.0.0.1:1/x"
    result = run(settings, "sink", "status", "--json", SENTIMENT_SINK_POSTGRES_DSN=dsn)
    assert result.returncode == 0
    found = json.loads(result.stdout)["postgres"]
    assert (found["answers"], found["where"]) == (False, "127.0.0.1, database x")
    assert "made-up-password" not in result.stdout + result.stderr


def test_a_sink_that_refuses_hides_no_other_sink_in_the_status(settings: Settings) -> None:
    sinks = {
        "SENTIMENT_SINK_POSTGRES_DSN": "this is no connection string",
        "SENTIMENT_SINK_MONGODB_URI": "mongodb://127.0.0.1:1/x",
    }
    for options in ((), ("--json",)):
        result = run(settings, "sink", "status", *options, **sinks)
        assert result.returncode == 1
        assert "SENTIMENT_SINK_POSTGRES_DSN is no connection string" in result.stdout
        assert "127.0.0.1:1: [Errno 111] Connection refused" in result.stdout
    assert [one["answers"] for one in json.loads(result.stdout).values()] == [False, False]
