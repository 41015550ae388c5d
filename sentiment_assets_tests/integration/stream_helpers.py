"""What the tests of the stream share: a tiny model, messages, one short lease."""

import json
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deltalake import DeltaTable
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.feature import HashingTF, Tokenizer
from pyspark.sql import SparkSession

from sentiment_assets.kafka.client import ensure_topic
from sentiment_assets.kafka.cluster import Cluster, find_cluster
from sentiment_assets.kafka.replay import Message, produce
from sentiment_assets.models.manifest import Draft, Source
from sentiment_assets.models.store import ModelStore
from sentiment_assets.settings import Settings
from sentiment_assets.spark.training import PREDICTION, PROBABILITY, RAW_PREDICTION
from sentiment_assets.streaming.lease import LeaseResult, run_lease

_MADE_UP = [("good happy love", 1.0), ("bad sad hate", 0.0), ("happy day", 1.0), ("sad day", 0.0)]


def save_tiny_model(
    spark: SparkSession, store: ModelStore, *, promote: bool = True, contrary: bool = False
) -> str:
    """Fit four made-up tweets and store the model as a candidate; returns its version.

    Parameters
    ----------
    contrary
        Learn the opposite of every label.
    """
    pipeline = Pipeline(
        stages=[
            Tokenizer(inputCol="text", outputCol="tiny_words"),
            HashingTF(inputCol="tiny_words", outputCol="tiny_features", numFeatures=256),
            LogisticRegression(
                featuresCol="tiny_features",
                probabilityCol=PROBABILITY,
                rawPredictionCol=RAW_PREDICTION,
                predictionCol=PREDICTION,
                maxIter=5,
            ),
        ]
    )
    rows = [(text, 1.0 - label if contrary else label) for text, label in _MADE_UP]
    model = pipeline.fit(spark.createDataFrame(rows, "text string, label double"))
    draft = Draft(
        kind="candidate",
        name="tiny_logistic_regression",
        variant="tiny",
        algorithm="logistic_regression",
        source=Source(kind="generated", file="none", note="made up"),
        rows_train=len(_MADE_UP),
        metrics={"neutral_band": 0.5},
        data_version="1",
        code_version="1",
        seed=1,
    )
    version = store.save(draft, lambda folder: model.save(str(folder / "pipeline"))).version
    if promote:
        store.promote(version, "a test")
    return version


def fresh_stream(spark: SparkSession, home: Path, bootstrap: str, **fields: Any) -> Settings:
    """Settings of a home with a chosen tiny model and a topic of its own."""
    settings = Settings(
        home=home, kafka_bootstrap=bootstrap, topic=f"test-{uuid.uuid4().hex[:8]}", **fields
    ).prepare()
    ensure_topic(Cluster(bootstrap), settings.topic, settings.topic_partitions)
    save_tiny_model(spark, ModelStore(settings.models))
    return settings


def tweet(number: int, text: str = "happy") -> Message:
    """A good message."""
    return Message(str(number).encode(), json.dumps({"id": str(number), "text": f"{text} {number}"}).encode())


def send(settings: Settings, messages: Iterable[Message]) -> int:
    """Deliver messages to the topic; returns how many the broker took."""
    cluster = find_cluster(settings)
    assert cluster is not None
    return produce(messages, cluster, settings.topic).sent


def drain(spark: SparkSession, settings: Settings, **options: Any) -> LeaseResult:
    """One lease until nothing is left."""
    options = {"lease_seconds": 120, "idle_seconds": 60, "until_drained": True} | options
    return run_lease(spark, settings, **options)


def column(settings: Settings, table: str, name: str) -> list[Any]:
    """One column of a Delta table, read without Spark."""
    found: list[Any] = (
        DeltaTable(str(settings.table(table))).to_pyarrow_dataset().to_table([name])[name].to_pylist()
    )
    return found
