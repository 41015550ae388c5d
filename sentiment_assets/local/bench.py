"""The benchmarks of the README: each works in a folder and a topic of its own and leaves the product's alone."""

import contextlib
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from pyspark.sql import SparkSession
from rich.console import Console

from sentiment_assets.failures import BrokerError, ModelError, SentimentError, SetupError
from sentiment_assets.kafka.broker import EmbeddedBroker
from sentiment_assets.kafka.client import ensure_topic, remove_topic
from sentiment_assets.kafka.cluster import Cluster, find_cluster
from sentiment_assets.kafka.replay import replay_file
from sentiment_assets.local.training import train
from sentiment_assets.models.store import ModelStore
from sentiment_assets.settings import Settings, is_local
from sentiment_assets.sources import TrainingSource, resolve
from sentiment_assets.spark.session import build_session
from sentiment_assets.streaming.latency import visible_latency
from sentiment_assets.streaming.lease import LeaseResult, run_lease

_WARM_UP_SECONDS = 40


def bench_training(
    settings: Settings, *, data: str | None, rows: int | None, console: Console
) -> dict[str, Any]:
    """Train every quick candidate on the same rows and compare time and accuracy.

    Returns
    -------
    dict
        ``seconds`` of the whole run, ``chosen``, ``source``, and accuracy and seconds to fit by candidate.
    """
    with _scratch(settings, "train") as scratch:
        result = train(scratch, data=data, rows=rows, profile="quick", select=None, console=console)
    figures: dict[str, Any] = {
        "seconds": result["seconds"],
        "chosen": result["chosen"],
        "source": result["source"],
    }
    for candidate in result["candidates"]:
        name = candidate["name"]
        figures[f"{name}: accuracy"] = candidate["accuracy"]
        figures[f"{name}: seconds to fit"] = candidate["fit_seconds"]
    return figures


def bench_drain(settings: Settings, *, data: str | None, messages: int, console: Console) -> dict[str, Any]:
    """Fill a topic, then drain it with the chosen model.

    Returns
    -------
    dict
        ``messages``, ``rows``, ``seconds`` from the first batch's start to the last commit, ``rows_per_second``,
        and ``seconds_with_start`` of the JVM and the warm-up too.
    """
    with _stream_bench(settings, data) as (scratch, cluster, source):
        console.print(f"producing {messages:,} messages", highlight=False)
        _produce(source, cluster, scratch, rate=None, limit=messages)
        console.print("draining", highlight=False)
        begun = time.monotonic()
        spark = build_session(scratch, role="stream", app_name="sentiment-assets bench stream")
        try:
            result = _lease(spark, scratch, lease_seconds=3600, until_drained=True, done=threading.Event())
        finally:
            spark.stop()
        return {
            "messages": messages,
            "rows": result.rows,
            "batches": result.batches,
            "seconds": round(result.seconds, 1),
            "rows_per_second": round(result.rows / result.seconds) if result.seconds else None,
            "seconds_with_start": round(time.monotonic() - begun, 1),
            "model_version": result.model_version,
            "scorer": result.scorer,
        }


def bench_latency(
    settings: Settings, *, data: str | None, rate: float, seconds: int, console: Console
) -> dict[str, Any]:
    """Produce at a steady rate while the stream runs, and measure when each row became visible.

    Returns
    -------
    dict
        ``rate``, ``rows`` measured, ``p50, p95, p99, max`` in seconds; the first 40 seconds are left out.
    """
    with _stream_bench(settings, data) as (scratch, cluster, source):
        spark = build_session(scratch, role="stream", app_name="sentiment-assets bench latency")
        done = threading.Event()
        failure: list[SentimentError] = []

        def produce() -> None:
            limit = int(rate * (seconds + _WARM_UP_SECONDS))
            try:
                _produce(source, cluster, scratch, rate=rate, limit=limit)
            except SentimentError as error:
                failure.append(error)
            done.set()

        console.print(f"{rate:,.0f} messages a second for {seconds + _WARM_UP_SECONDS} s", highlight=False)
        producer = threading.Thread(target=produce, name="bench-producer", daemon=True)
        producer.start()
        try:
            result = _lease(
                spark,
                scratch,
                lease_seconds=seconds + _WARM_UP_SECONDS + 120,
                until_drained=False,
                done=done,
            )
        finally:
            spark.stop()
        if failure:
            raise failure[0]
        measured = visible_latency(scratch.table("predictions"), skip_seconds=_WARM_UP_SECONDS)
        return {
            "rate": rate,
            **asdict(measured),
            "model_version": result.model_version,
            "scorer": result.scorer,
        }


def _lease(
    spark: SparkSession, settings: Settings, *, lease_seconds: int, until_drained: bool, done: threading.Event
) -> LeaseResult:
    """One lease; once ``done`` is set it ends as soon as nothing is left to score."""
    lag: list[int | None] = [None]

    def finished() -> str | None:
        return "the benchmark is over" if done.is_set() and lag[0] == 0 else None

    return run_lease(
        spark,
        settings,
        model_version=None,
        lease_seconds=lease_seconds,
        idle_seconds=lease_seconds,
        until_drained=until_drained,
        run_id=None,
        lease=None,
        on_progress=lambda progress: lag.__setitem__(0, progress.lag),
        should_stop=finished,
    )


def _produce(
    source: TrainingSource, cluster: Cluster, scratch: Settings, *, rate: float | None, limit: int
) -> None:
    replay_file(
        source.path,
        cluster,
        scratch.topic,
        encoding=source.encoding,
        rate=rate,
        limit=limit,
        seed=scratch.seed,
    )


@contextlib.contextmanager
def _scratch(settings: Settings, name: str) -> Iterator[Settings]:
    """A home of its own inside the real one, removed afterwards; downloads are shared."""
    home = settings.root / "tmp" / f"bench-{name}-{uuid.uuid4().hex[:8]}"
    scratch = settings.model_copy(update={"home": home, "storage": None})
    settings.downloads.mkdir(parents=True, exist_ok=True)
    home.mkdir(parents=True)
    try:
        scratch.prepare()
        scratch.downloads.symlink_to(settings.downloads)
        yield scratch
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def _stream_bench(settings: Settings, data: str | None) -> Iterator[tuple[Settings, Cluster, TrainingSource]]:
    """A scratch home with the real models, a topic of its own on a running broker, and a file to replay."""
    settings.prepare()
    if not is_local(settings.models):
        raise SetupError(
            f"The benchmarks measure local folders, not {settings.models}.", "Unset SENTIMENT_STORAGE."
        )
    if ModelStore(settings.models).chosen() is None:
        raise ModelError("No model is chosen yet.", "Run `sentiment-assets train` or `make run` first.")
    source = resolve(settings, data)
    broker = EmbeddedBroker(settings)
    cluster = find_cluster(settings)
    started = cluster is None
    if cluster is None:
        cluster = Cluster(str(broker.start().bootstrap))
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    try:
        ensure_topic(cluster, topic, settings.topic_partitions)
        with _scratch(settings, "stream") as home:
            scratch = home.model_copy(update={"kafka_bootstrap": cluster.bootstrap, "topic": topic})
            scratch.models.rmdir()
            scratch.models.symlink_to(settings.models)
            yield scratch, cluster, source
    finally:
        with contextlib.suppress(BrokerError):
            remove_topic(cluster, topic)
        if started:
            broker.stop()
