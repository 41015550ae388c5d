"""The command line's promises: help, exit codes, one clear line for an error, JSON alone on stdout."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from rich.text import Text
from typer.testing import CliRunner

from sentiment_assets.cli import app, printable, row_limit
from sentiment_assets.terminal import open_console

COMMANDS = (
    ["doctor"], ["up"], ["train"], ["evaluate"], ["score"], ["kafka", "start"], ["kafka", "stop"],
    ["kafka", "status"], ["replay"], ["stream"], ["status"], ["models", "list"], ["models", "promote"],
    ["models", "rollback"], ["reset"], ["bench", "train"], ["bench", "stream"], ["bench", "latency"],
    ["ingest", "x"], ["ingest", "jetstream"], ["ingest", "file"], ["ingest", "spool"], ["sink", "run"],
    ["sink", "status"],
)  # fmt: skip


def run(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sentiment_assets", *arguments],
        env=os.environ | {"SENTIMENT_HOME": str(home), "COLUMNS": "200"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_of_the_contract_has_a_help(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["up", "--rows", "many"],
        ["up", "--rate", "0"],
        ["reset"],
        ["train", "--profile", "slow"],
        ["up", "--source", "carrier-pigeon"],
        ["up", "--source", "jetstream", "--exit-when-drained"],
        ["ingest", "file", "tweets.csv", "--speed", "1", "--rate", "1"],
        ["sink", "run", "--only", "nonsense"],
    ],
    ids=" ".join,
)
def test_bad_usage_ends_with_two(arguments: list[str], tmp_path: Path) -> None:
    assert run(tmp_path / "home", *arguments).returncode == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("SENTIMENT_KAFKA_PORT", "many"), ("SENTIMENT_TRAIN_ROWS", "0"), ("SENTIMENT_ENCODING", "cp1252")],
)
def test_an_unusable_environment_variable_is_named(tmp_path: Path, name: str, value: str) -> None:
    result = run(tmp_path / "home", "status", **{name: value})
    assert result.returncode == 1
    assert name in result.stderr
    assert "Traceback" not in result.stderr


def test_a_home_that_cannot_be_created_is_one_clear_line(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    result = run(blocker / "home", "kafka", "start")
    assert result.returncode == 1
    assert str(blocker) in result.stderr
    assert "SENTIMENT_HOME" in result.stderr
    assert "Traceback" not in result.stderr


def test_status_of_an_empty_home_is_json_alone_on_stdout(tmp_path: Path) -> None:
    result = run(tmp_path / "home", "status", "--json")
    assert result.returncode == 0, result.stderr
    status = json.loads(result.stdout)
    assert (status["predictions"], status["dead_letters"], status["model"]) == (0, 0, None)


def test_rolling_back_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    result = run(tmp_path / "home", "models", "rollback")
    assert result.returncode == 1
    assert "error:" in result.stderr


def test_rows_are_all_or_a_positive_number() -> None:
    assert row_limit("all") is None
    assert row_limit("5000") == 5000
    with pytest.raises(typer.BadParameter):
        row_limit("-5")


def test_a_tweet_cannot_drive_the_terminal() -> None:
    assert "\x1b" not in printable("\x1b[2Jgone")


def test_markup_of_any_kind_in_a_tweet_is_printed_as_it_was_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    open_console().print(Text("\x1b]0;title\x07\x9b2J\r\u202e[red]<b>*x*</b> [link=http://a]y[/link]"))
    shown = capsys.readouterr().out
    assert shown.endswith("[red]<b>*x*</b> [link=http://a]y[/link]\n")
    assert shown[:-1].isprintable()
