"""Commands that use a model: evaluate a file, score texts, replay tweets, run one lease in the foreground."""

import signal
import threading
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from sentiment_assets.failures import BrokerError, ModelError
from sentiment_assets.kafka.client import ensure_topic
from sentiment_assets.kafka.cluster import Cluster, find_cluster
from sentiment_assets.kafka.replay import replay_file
from sentiment_assets.models.selection import leakage
from sentiment_assets.models.store import BY_HAND, ModelStore
from sentiment_assets.schemas import TEST_TWEETS
from sentiment_assets.settings import Settings, is_local
from sentiment_assets.sources.sentiment140 import inspect
from sentiment_assets.spark.delta import table_exists
from sentiment_assets.spark.evaluation import evaluate
from sentiment_assets.spark.explain import explain
from sentiment_assets.spark.raw import read_labelled
from sentiment_assets.spark.scoring import score
from sentiment_assets.spark.session import build_session
from sentiment_assets.streaming.compilation import compile_version
from sentiment_assets.streaming.lease import run_lease
from sentiment_assets.streaming.progress import Progress
from sentiment_assets.streaming.serving import check_fit, load_model, neutral_band, serve, version_to_serve


def intact_version(settings: Settings, version: str | None) -> str:
    """The named model, or the chosen one, with all its files: known before seconds go into a JVM.

    Raises
    ------
    ModelError
        When none is chosen, the version is unknown, or files of it are missing.
    """
    store = ModelStore(settings.models)
    wanted = version_to_serve(store, version)
    store.folder(wanted)
    return wanted


def running_broker(settings: Settings) -> Cluster:
    """The cluster to use.

    Raises
    ------
    BrokerError
        When none runs.
    """
    cluster = find_cluster(settings)
    if cluster is None:
        raise BrokerError(
            "No Kafka broker runs.",
            "Start one with `sentiment-assets kafka start`, or name yours in SENTIMENT_KAFKA_BOOTSTRAP.",
        )
    return cluster


def evaluate_file(settings: Settings, file: Path, *, version: str | None, encoding: str) -> dict[str, Any]:
    """Accuracy of a model on a labelled file.

    Returns
    -------
    dict
        ``rows`` scored, ``neutral_rows`` and unusable ``rejected_rows`` left out, ``accuracy, macro_f1, auc,
        ci95_low, ci95_high``, ``model_version`` and ``scorer``.

    Raises
    ------
    SourceError
        When the file cannot be used.
    ModelError
        When the model cannot be used.
    """
    settings.prepare()
    found = inspect(file, encoding=encoding)
    name = intact_version(settings, version)
    spark = build_session(settings, role="training", app_name="sentiment-assets evaluate")
    served = serve(spark, settings, name)
    labelled = read_labelled(spark, found.path, encoding)
    metrics = evaluate(score(served.model, labelled.tweets))
    return {
        "rows": metrics.n,
        "neutral_rows": labelled.neutral,
        "rejected_rows": labelled.rejected,
        "accuracy": metrics.accuracy,
        "macro_f1": metrics.macro_f1,
        "auc": metrics.auc,
        "ci95_low": metrics.ci95_low,
        "ci95_high": metrics.ci95_high,
        "model_version": name,
        "scorer": served.scorer,
    }


def compile_stored(settings: Settings, *, version: str | None) -> dict[str, Any]:
    """Take a version through the gate of compiled scoring, as its promotion does.

    Returns
    -------
    dict
        ``model_version``, ``compiled`` (whether its tables will serve), ``scorer`` in words, ``rows`` compared,
        ``labels_differ``, ``max_difference``.

    Raises
    ------
    ModelError
        When the model cannot be used, or its tables not be written.
    """
    settings.prepare()
    name = intact_version(settings, version)
    spark = build_session(settings, role="training", app_name="sentiment-assets compile")
    table = settings.table(TEST_TWEETS.name)
    held_out = spark.read.format("delta").load(str(table)) if table_exists(table) else None
    scorer = compile_version(spark, settings, name, held_out)
    return {
        "model_version": name,
        "compiled": scorer.compiled,
        "scorer": scorer.title,
        "rows": scorer.rows,
        "labels_differ": scorer.labels_differ,
        "max_difference": scorer.max_difference,
    }


def promote_stored(settings: Settings, version: str, *, force: bool, console: Console) -> dict[str, Any]:
    """Make a stored version the chosen model, as a person wishes; compiled first if there is no verdict yet.

    Parameters
    ----------
    force
        Also one that is too good to be true.

    Returns
    -------
    dict
        ``chosen``, the version, and ``scorer``: which way the stream will apply it.

    Raises
    ------
    ModelError
        When it is missing, damaged, of another release, or above the leakage ceiling.
    """
    store = ModelStore(settings.models)
    store.folder(version, deep=True)
    leak = leakage(store.manifest(version), settings.leakage_ceiling)
    if leak and not force:
        raise ModelError(leak, "Look for leakage in its data; --force promotes it all the same.")
    check_fit(store, version)
    if is_local(store.root) and not store.scorer(version)[0].made_with:
        with console.status("compiling it for the stream"):
            compile_stored(settings, version=version)
    store.promote(version, reason=BY_HAND)
    return {"chosen": store.chosen(), "scorer": store.scorer(version)[0].title}


def score_texts(settings: Settings, texts: list[str], *, version: str | None) -> dict[str, Any]:
    """Sentiment, probability and deciding terms of each text, in the order given.

    Returns
    -------
    dict
        ``model_version``, and ``scores``: each ``text, sentiment, probability, terms`` (``term, contribution``),
        ``note``.

    Raises
    ------
    ModelError
        When the model cannot be used.
    """
    settings.prepare()
    name = intact_version(settings, version)
    build_session(settings, role="stream", app_name="sentiment-assets score")
    model = load_model(ModelStore(settings.models), name)
    scores = [
        {
            "text": found.text,
            "sentiment": found.sentiment,
            "probability": found.probability,
            "terms": [{"term": term, "contribution": weight} for term, weight in found.terms],
            "note": found.note,
        }
        for found in explain(model, texts, band=neutral_band(settings, name))
    ]
    return {"model_version": name, "scores": scores}


def replay_to_topic(
    settings: Settings,
    file: Path,
    *,
    rate: float | None,
    limit: int | None,
    seed: int | None,
    encoding: str,
    console: Console,
) -> dict[str, Any]:
    """Produce a file's tweets to the topic; Ctrl-C stops after what was delivered.

    Raises
    ------
    BrokerError
        When there is no broker.
    SourceError
        When the file cannot be used.
    """
    settings.prepare()
    # What is in the topic cannot be taken back: a file that is cut off or wrongly encoded sends nothing at all.
    inspect(file, encoding=encoding, both_labels=False)
    cluster = running_broker(settings)
    ensure_topic(cluster, settings.topic, settings.topic_partitions)
    stop = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        with console.status("replaying") as shown:
            result = replay_file(
                file,
                cluster,
                settings.topic,
                encoding=encoding,
                rate=rate,
                limit=limit,
                seed=settings.seed if seed is None else seed,
                on_progress=lambda sent: shown.update(f"replayed {sent:,} tweets"),
                stop=stop,
            )
    finally:
        signal.signal(signal.SIGINT, before)
    return vars(result)


def stream_once(
    settings: Settings,
    *,
    until_drained: bool,
    lease_seconds: int | None,
    version: str | None,
    console: Console,
) -> dict[str, Any]:
    """One lease of the stream in this process, with its figures on the console.

    Returns
    -------
    dict
        What :class:`~sentiment_assets.streaming.lease.LeaseResult` tells.

    Raises
    ------
    BrokerError, ModelError, StreamError, TableError
        When there is no broker or no usable model, or the stream fails.
    """
    settings.prepare()
    intact_version(settings, version)
    running_broker(settings)
    stopped: list[str] = []

    def on_signal(signum: int, _frame: object) -> None:
        stopped.append(f"stopped by {signal.Signals(signum).name}")

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with console.status("starting Spark") as shown:

            def on_progress(progress: Progress) -> None:
                lag = "?" if progress.lag is None else f"{progress.lag:,}"
                shown.update(Text(f"{progress.phase} · {progress.rows:,} rows · lag {lag}"))

            spark = build_session(settings, role="stream", app_name="sentiment-assets stream")
            # PySpark takes SIGINT for itself, to cancel jobs: the batch would be thrown away.
            signal.signal(signal.SIGINT, on_signal)
            result = run_lease(
                spark,
                settings,
                model_version=version,
                lease_seconds=lease_seconds or settings.lease_seconds,
                idle_seconds=settings.idle_seconds,
                until_drained=until_drained,
                run_id=None,
                lease=None,
                on_progress=on_progress,
                should_stop=lambda: stopped[0] if stopped else None,
            )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return vars(result)
