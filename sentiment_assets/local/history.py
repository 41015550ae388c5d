"""``rescore`` and ``backfill``: plan or resume, score piece by piece with progress, commit or have it committed."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sentiment_assets.failures import StreamError
from sentiment_assets.kafka.replay import Message, tweet_message
from sentiment_assets.local.scoring import intact_version
from sentiment_assets.runtime.instance import only_one
from sentiment_assets.settings import Settings, is_local
from sentiment_assets.sources.sentiment140 import inspect, iter_rows
from sentiment_assets.spark.scoring import Model
from sentiment_assets.spark.session import build_session
from sentiment_assets.streaming import backfill as backfills
from sentiment_assets.streaming import rescore as rescores
from sentiment_assets.streaming.exclusive import hold_stream_lock
from sentiment_assets.streaming.heartbeat import read_heartbeat
from sentiment_assets.streaming.serving import neutral_band, serve
from sentiment_assets.streaming.staging import Plan, Staging, commit_waiting

_COMMIT_SECONDS = 600.0
_LINES = (".jsonl", ".ndjson")


def rescore(
    settings: Settings, begin: rescores.Bound, end: rescores.Bound, version: str | None, console: Console
) -> dict[str, Any]:
    """Score past predictions anew; the same command goes on where a killed one was.

    Returns
    -------
    dict
        ``rows, seconds`` (of scoring), ``rows_per_second, model_version, table_version, before`` (version that has
        the old scores) and ``resumed`` (pieces found staged).

    Raises
    ------
    StreamError
        When nothing is in the range, or the commit fails.
    """
    settings.prepare()
    name = intact_version(settings, version)
    staging = Staging(settings, rescores.job_name(begin, end, name))

    def stage(spark: SparkSession, plan: Plan, piece: str, model: Model) -> None:
        rescores.stage_piece(spark, settings, staging, plan, piece, model)

    plan = rescores.plan_rescore(settings, begin, end, name)
    with only_one(settings, "rescore"):
        done = _run(settings, staging, plan, stage, console)
    rows = next(iter(done.plan.rows.values()))
    table_version = done.versions["predictions"]
    return done.figures(rows) | {"table_version": table_version, "before": table_version - 1}


def backfill(
    settings: Settings, file: Path, version: str | None, encoding: str, console: Console
) -> dict[str, Any]:
    """Score a file's messages into the tables, past the topic; the same file again replaces its own rows.

    Returns
    -------
    dict
        ``rows`` (messages), ``seconds, rows_per_second, model_version, topic, table_version, resumed``.

    Raises
    ------
    SourceError
        When the file cannot be used.
    StreamError
        When the commit fails.
    """
    settings.prepare()
    if file.suffix.lower() not in _LINES:
        inspect(file, encoding=encoding, both_labels=False)
    name = intact_version(settings, version)
    topic = backfills.file_topic(file)
    staging = Staging(settings, backfills.job_name(topic, name))
    everything, at = _messages(file, encoding), 0

    def stage(spark: SparkSession, plan: Plan, piece: str, model: Model) -> None:
        nonlocal at
        content, at = backfills.content_of(plan, piece, everything, at)
        backfills.stage_piece(spark, staging, plan, piece, model, content)

    plan = backfills.plan_backfill(
        file, lambda: _messages(file, encoding), name, neutral_band(settings, name)
    )
    with only_one(settings, "backfill"):
        done = _run(settings, staging, plan, stage, console)
    figures = done.figures(int(done.plan.facts["messages"]))
    return figures | {"topic": topic, "table_version": done.versions["predictions"]}


def _messages(file: Path, encoding: str) -> Iterator[Message]:
    """What the file holds, in its order: a line of ``.jsonl`` is a message, else rows of Sentiment140's format."""
    if file.suffix.lower() in _LINES:
        with file.open("rb") as lines:
            for line in lines:
                yield Message(None, line.rstrip(b"\r\n"))
    else:
        for row in iter_rows(file, encoding):
            yield tweet_message(row, source="backfill")


class _Done:
    """What a finished job was."""

    def __init__(
        self, plan: Plan, versions: dict[str, int], seconds: float, scored: int, resumed: int
    ) -> None:
        self.plan, self.versions = plan, versions
        self._seconds, self._scored, self._resumed = seconds, scored, resumed

    def figures(self, rows: int) -> dict[str, Any]:
        share = self._scored / max(1, self._scored + self._resumed)
        return {
            "rows": rows,
            "seconds": round(self._seconds, 1),
            "rows_per_second": round(rows * share / self._seconds) if self._seconds else None,
            "model_version": self.plan.model_version,
            "resumed": self._resumed,
        }


def _run(
    settings: Settings,
    staging: Staging,
    make: Callable[[], Plan],
    stage: Callable[[SparkSession, Plan, str, Model], None],
    console: Console,
) -> _Done:
    if not is_local(settings.lake):
        raise StreamError(
            f"The tables are at {settings.lake}: rescore and backfill stage their rows on a local disk only.",
            "Run them on an installation whose SENTIMENT_STORAGE is a folder.",
        )
    staging.forget_if_stale()
    done = staging.result() if (staging.folder / "done.json").exists() else None
    plan = staging.open(make)
    missing = staging.missing(plan)
    resumed, started = len(plan.pieces) - len(missing), time.monotonic()
    if done is None:
        spark = build_session(settings, role="stream", app_name=f"sentiment-assets {plan.job}")
        if missing:
            model = serve(spark, settings, plan.model_version).model
            started = time.monotonic()
            with _bar(console) as bar:
                task = bar.add_task(plan.what, total=len(plan.pieces), completed=resumed)
                for piece in missing:
                    stage(spark, plan, piece, model)
                    bar.advance(task)
    seconds = time.monotonic() - started
    if done is None:
        staging.ready()
        done = _committed(spark, settings, staging, console)
    staging.forget()
    return _Done(plan, done, seconds, len(missing), resumed)


def _committed(spark: SparkSession, settings: Settings, staging: Staging, console: Console) -> dict[str, int]:
    """Commit while no stream runs, else wait for the running stream to do it."""
    deadline = time.monotonic() + _COMMIT_SECONDS
    told = False
    while time.monotonic() < deadline:
        if (result := staging.result()) is not None:
            return result
        beat = read_heartbeat(settings)
        if beat is None or not beat.running:
            try:
                with hold_stream_lock(spark, settings):
                    commit_waiting(spark, settings)
                continue
            except StreamError:
                # A stream has just started: it will see what is staged.
                if staging.result() is not None:
                    continue
        if not told:
            console.print("A stream runs: it commits the staged rows beside its query.")
            told = True
        time.sleep(0.5)
    raise StreamError(
        f"The staged rows were not committed within {_COMMIT_SECONDS:.0f} s.",
        "Nothing is lost: run the same command again, best while no stream runs.",
    )


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)
