"""Bad input through the real command line: exit code 1, one line with the next step, and nothing lost.

Only what needs no JVM: a broken file or model is found before seconds go into one.
"""

import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from typer.testing import CliRunner

from sentiment_assets.cli import app, lines_of_stdin
from sentiment_assets.failures import ModelError, SentimentError, SourceError
from sentiment_assets.local.scoring import intact_version
from sentiment_assets.models.selection import ACCURACY
from sentiment_assets.models.store import Draft, ModelStore, Source
from sentiment_assets.runtime.instance import only_one
from sentiment_assets.schemas import PREDICTIONS
from sentiment_assets.settings import Settings
from sentiment_assets.spark.delta import ensure_table
from sentiment_assets.streaming.exclusive import exclude_streams

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(settings: Settings) -> Command:
    """Runs ``sentiment-assets`` in a home of its own; keyword arguments are environment variables."""

    def run(*arguments: str, stdin: str = os.devnull, **environment: str) -> subprocess.CompletedProcess[str]:
        with Path(stdin).open("rb") as source:
            return finished(source, arguments, environment)

    def finished(
        source: BinaryIO, arguments: tuple[str, ...], environment: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sentiment_assets", *arguments],
            env=os.environ | {"SENTIMENT_HOME": str(settings.root), "NO_COLOR": "1"} | environment,
            stdin=source,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    """The one line that a refused command writes; it writes nothing else anywhere."""
    assert result.returncode == 1, result
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def rows(count: int = 60, text: str = "a {mood} day, number {number}") -> str:
    """Rows in Sentiment140's format, the labels in turn."""
    return "".join(
        f'"{label}","{number}","Mon Apr 06 22:19:45 PDT 2009","NO_QUERY","someone",'
        f'"{text.format(mood="good" if label else "bad", number=number)}"\n'
        for number in range(count)
        for label in [4 if number % 2 else 0]
    )


def zipped(name: str, content: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, content)

    return write


BROKEN_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a folder": (lambda path: path.mkdir(), "is a folder"),
    "empty": (lambda path: path.write_text(""), "is empty"),
    "truncated": (lambda path: path.write_text(rows()[:-20]), "is truncated"),
    "UTF-16": (lambda path: path.write_text(rows(), "utf-16"), "another encoding (UTF-16)"),
    "UTF-8": (lambda path: path.write_text(rows(text="{mood} café {number}"), "utf-8"), "`--encoding utf-8`"),
    "other columns": (lambda path: path.write_text("1,text\n" * 50), "has other columns"),
    "a header": (lambda path: path.write_text("target,id,date,flag,user,text\n" + rows()), "header line"),
    "a zip without a CSV": (zipped("readme.txt", "hello"), "does not hold training.1600000"),
    "half a zip": (lambda path: path.write_bytes(b"PK\x03\x04 and no more"), "damaged or incomplete"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_FILES)
def test_a_broken_file_is_refused_before_any_jvm_starts(
    case: str, settings: Settings, tmp_path: Path
) -> None:
    write, cause = BROKEN_FILES[case]
    write(tmp_path / "tweets.csv")
    for command_of_a_file in ("evaluate", "replay"):
        result = CliRunner().invoke(
            app,
            [command_of_a_file, str(tmp_path / "tweets.csv")],
            # Nothing listens there: the file is looked at first.
            env={"SENTIMENT_HOME": str(settings.root), "SENTIMENT_KAFKA_BOOTSTRAP": "127.0.0.1:9"},
        )
        assert isinstance(result.exception, SourceError)
        assert cause in result.exception.what + result.exception.next_step


def test_a_file_of_one_label_cannot_be_evaluated(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "negative.csv"
    file.write_text("".join(line + "\n" for line in rows().splitlines() if line.startswith('"0"')))
    assert "no row with the label positive" in refusal(command("evaluate", str(file)))


def test_a_file_name_cannot_drive_the_terminal_and_is_no_markup(command: Command, tmp_path: Path) -> None:
    line = refusal(command("evaluate", str(tmp_path / "[bold]\x1b[2J.csv")))
    assert "[bold]\N{REPLACEMENT CHARACTER}[2J.csv does not exist" in line


def test_without_a_model_no_jvm_starts(command: Command, settings: Settings) -> None:
    assert "sentiment-assets train" in refusal(command("score", "hello", "--json"))
    assert not list(settings.logs.glob("spark*"))


def test_a_stream_without_a_broker_says_how_to_start_one(command: Command, settings: Settings) -> None:
    store_model(settings)
    assert "sentiment-assets kafka start" in refusal(command("stream", "--json"))


def store_model(settings: Settings, **metrics: float) -> str:
    """A version that is stored and chosen, as far as files go."""
    store = ModelStore(settings.models)
    draft = Draft(
        kind="candidate",
        name="ngrams_naive_bayes",
        variant="ngrams",
        source=Source(kind="file", file="tweets.csv", note="made up"),
        rows_train=1,
        metrics=metrics,
        data_version="1",
        code_version="1",
        seed=1,
    )
    version = store.save(draft, lambda folder: (folder / "pipeline").write_text("weights")).version
    store.promote(version, "test")
    return version


def test_a_model_that_lacks_a_file_is_refused_before_any_jvm_starts(
    command: Command, settings: Settings
) -> None:
    version = store_model(settings)
    (settings.models / version / "pipeline").unlink()
    for arguments in (["score", "hello"], ["models", "promote", version]):
        assert f"The model {version} lacks its file pipeline" in refusal(command(*arguments, "--json"))
    with pytest.raises(ModelError, match="lacks its file pipeline"):
        intact_version(settings, version)
    assert not list(settings.logs.glob("spark*"))


def test_a_version_is_a_name_and_never_a_path(command: Command, settings: Settings) -> None:
    version = store_model(settings)
    assert f"There is no model './{version}'" in refusal(command("models", "promote", f"./{version}"))
    store = ModelStore(settings.models)
    for name in (f"{version}/", f"../models/{version}", "..", "", "nonsense"):
        with pytest.raises(ModelError, match="There is no model"):
            store.promote(name, "test")
    assert store.chosen() == version


def test_a_model_that_is_too_good_to_be_true_is_promoted_by_force_alone(
    command: Command, settings: Settings
) -> None:
    version = store_model(settings, **{ACCURACY: 0.99})
    assert "labels have leaked" in refusal(command("models", "promote", version))


def test_nothing_is_deleted_while_nobody_answers(command: Command, settings: Settings) -> None:
    kept = settings.prepare().lake / "kept"
    kept.mkdir(parents=True)
    assert "Give --yes" in refusal(command("reset", "--stream"))
    assert kept.exists()


def test_a_text_that_is_not_utf_8_is_named_by_its_line(command: Command, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.write_bytes(b"fine\ncaf\xe9\n")
    assert "Line 2 of the standard input is not UTF-8" in refusal(command("score", stdin=str(texts)))


def test_a_line_of_stdin_is_a_text_whatever_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    written = "one\u2028still one\r\ntwo\x85\n\nlast".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(written), "latin-1"))
    assert lines_of_stdin() == ["one\u2028still one", "two\x85", "", "last"]


def test_no_broker_of_our_own_is_started_beside_a_cluster(command: Command) -> None:
    answer = command("kafka", "start", SENTIMENT_KAFKA_BOOTSTRAP="kafka.example:9092")
    assert "names a cluster of yours" in refusal(answer)


def test_a_damaged_table_leaves_the_rest_of_the_status(command: Command, settings: Settings) -> None:
    ensure_table(settings.table("predictions"), PREDICTIONS)
    newest = max((settings.table("predictions") / "_delta_log").glob("*.json"))
    newest.write_text('{"add": {"pa')
    found = json.loads(command("status", "--json").stdout)
    assert "cannot be read" in found["table_problem"]
    assert (found["predictions"], found["broker"]) == (None, "not running")
    assert "cannot be read" in command("status").stdout


def test_a_training_names_our_reason_and_not_what_it_came_from(
    command: Command, settings: Settings, tmp_path: Path
) -> None:
    version = store_model(settings)
    result = command("train", "--json", "--data", str(tmp_path / "none.csv"))
    assert (result.returncode, result.stdout) == (1, "")
    assert (
        f"The file {tmp_path / 'none.csv'} does not exist. Check the path." in result.stderr.splitlines()[-1]
    )
    assert "Errno" not in result.stderr
    assert ModelStore(settings.models).chosen() == version


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("".join(line + "\n" for line in rows().splitlines() if line.startswith('"4"')), "label negative"),
        (rows(text=""), "empty text: 60"),
    ],
    ids=["one label", "only empty texts"],
)
def test_rows_that_teach_nothing_end_a_training_before_any_jvm_starts(
    content: str, cause: str, command: Command, settings: Settings, tmp_path: Path
) -> None:
    version = store_model(settings)
    (tmp_path / "tweets.csv").write_text(content)
    result = command("train", "--json", "--data", str(tmp_path / "tweets.csv"))
    assert (result.returncode, result.stdout) == (1, "")
    *progress, line = result.stderr.splitlines()
    assert cause in line
    assert "The chosen model was not touched. Mend the cause and run the command again" in line
    assert not any("Error" in step or "Dependencies" in step for step in progress)
    assert ModelStore(settings.models).chosen() == version
    assert not list(settings.logs.glob("spark*"))


UNKNOWN_CANDIDATES = (
    ["train", "--select", "candidates/nonsense"],
    ["train", "--tune", "--tune-candidate", "nonsense"],
    ["protocol", "--candidates", "nonsense"],
)


def refused(arguments: list[str], settings: Settings) -> SentimentError:
    """The error of ours that a command ends with, without a process of its own."""
    result = CliRunner().invoke(app, arguments, env={"SENTIMENT_HOME": str(settings.root)})
    assert isinstance(result.exception, SentimentError)
    assert not list(settings.logs.glob("spark*"))
    return result.exception


@pytest.mark.parametrize("arguments", UNKNOWN_CANDIDATES, ids=" ".join)
def test_an_unknown_candidate_is_refused_with_those_that_exist(
    arguments: list[str], settings: Settings
) -> None:
    error = refused(arguments, settings)
    assert "nonsense" in error.what
    assert "nb_ngrams_logistic_regression" in error.next_step


def test_a_search_for_a_candidate_that_is_not_trained_is_refused(settings: Settings) -> None:
    error = refused(["train", "--tune", "--tune-candidate", "ngrams_naive_bayes"], settings)
    assert "--profile full" in error.next_step


def test_a_report_before_any_training_says_what_to_run(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "results.md"
    assert "sentiment-assets train" in refused(["report", "--markdown", str(file)], settings).next_step
    assert not file.exists()


BAD_NUMBERS = (["--tune-minutes", "nan"], ["--tune-minutes", "0"], ["--trials", "0"], ["--trials", "1.5"])


@pytest.mark.parametrize("arguments", BAD_NUMBERS, ids=" ".join)
def test_a_budget_that_is_none_is_bad_usage(arguments: list[str], settings: Settings) -> None:
    result = CliRunner().invoke(
        app, ["train", "--tune", *arguments], env={"SENTIMENT_HOME": str(settings.root)}
    )
    assert result.exit_code == 2


def test_unknown_assets_are_refused_with_those_that_exist(command: Command) -> None:
    line = refusal(command("train", "--select", "nonsense", "--json"))
    assert "no training asset 'nonsense'" in line
    assert "chosen_model" in line


@pytest.mark.parametrize("rows_asked", ["0", "-1", "1.5", "nan", "²", "1__0", "99999999999"])
def test_a_number_of_rows_that_is_none_is_bad_usage(rows_asked: str, settings: Settings) -> None:
    result = CliRunner().invoke(
        app, ["train", "--rows", rows_asked], env={"SENTIMENT_HOME": str(settings.root)}
    )
    assert result.exit_code == 2


def test_an_old_java_is_named_with_what_to_install(command: Command, tmp_path: Path) -> None:
    java = tmp_path / "jdk" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(
        "#!/bin/sh\n"
        f"echo '    java.home = {tmp_path / 'jdk'}' >&2\n"
        "echo '    java.specification.version = 11' >&2\n"
    )
    java.chmod(0o755)
    found = json.loads(
        subprocess.run(
            [sys.executable, "-c", _FIND_JAVA],
            env=os.environ | {"JAVA_HOME": str(tmp_path / "jdk"), "PATH": ""},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
    )
    assert f"found only Java 11 at {tmp_path / 'jdk'}" in found
    assert "openjdk-17-jre-headless" in found


_FIND_JAVA = """
import json
from sentiment_assets.failures import SetupError
from sentiment_assets.runtime.java import find_java
try:
    find_java(places=())
except SetupError as error:
    print(json.dumps(str(error)))
"""


def test_a_jar_cache_that_cannot_be_used_is_named(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = refusal(command("kafka", "start", "--json", SENTIMENT_JAR_CACHE=str(tmp_path / "file" / "jars")))
    assert "SENTIMENT_JAR_CACHE" in line


def test_an_ivy_settings_file_that_is_missing_is_named(command: Command, tmp_path: Path) -> None:
    missing = tmp_path / "ivysettings.xml"
    result = command(
        "kafka", "start", SENTIMENT_JAR_CACHE=str(tmp_path / "jars"), SENTIMENT_IVY_SETTINGS=str(missing)
    )
    assert f"The file {missing} does not exist" in refusal(result)


def test_reset_all_waits_for_the_end_of_whatever_runs(command: Command, settings: Settings) -> None:
    version = store_model(settings)
    for running in (only_one(settings, "up"), only_one(settings, "train"), exclude_streams(settings)):
        with running:
            refusal(command("reset", "--all", "--yes"))
    assert ModelStore(settings.models).chosen() == version
    assert command("reset", "--all", "--yes").returncode == 0
    assert not settings.models.exists()


def test_a_second_main_job_names_the_first(command: Command, settings: Settings) -> None:
    with only_one(settings, "up"):
        assert f"(pid {os.getpid()})" in refusal(command("up", "--data", "sample"))


def test_a_fault_of_ours_is_one_line_and_its_stack_trace_is_kept(settings: Settings) -> None:
    result = subprocess.run(
        [sys.executable, "-c", _FAULT, "fault"],
        env=os.environ | {"SENTIMENT_HOME": str(settings.root), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    kept = settings.logs / "unforeseen.log"
    assert refusal(result) == (
        "Something unforeseen went wrong (ZeroDivisionError: division by zero). "
        f"The stack trace is in {kept}: report it with what you did."
    )
    assert "Traceback" in kept.read_text(encoding="utf-8")


_FAULT = """
from sentiment_assets import cli
@cli.app.command()
def fault():
    1 / 0
cli.main()
"""


def test_an_interrupt_while_modules_load_ends_without_a_stack_trace(settings: Settings) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _INTERRUPTED_IMPORT],
        env=os.environ | {"SENTIMENT_HOME": str(settings.root)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (128 + signal.SIGINT, "")


_INTERRUPTED_IMPORT = """
import signal, sys
from sentiment_assets.__main__ import main
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "sentiment_assets.cli":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
main()
"""
