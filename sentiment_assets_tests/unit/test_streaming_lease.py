"""How many messages a micro-batch may hold."""

from pathlib import Path

import pytest
from pyspark.ml import PipelineModel

from sentiment_assets.settings import Settings
from sentiment_assets.spark.compiled.model import CompiledModel
from sentiment_assets.spark.scoring import Model
from sentiment_assets.streaming.lease import _batch
from sentiment_assets.streaming.serving import Served


@pytest.mark.parametrize(
    ("model", "asked", "given"),
    [
        (CompiledModel(Path("tables"), Path("cache")), 200_000, 200_003),
        (PipelineModel([]), 200_000, 50_003),
        (PipelineModel([]), 100, 103),
    ],
    ids=["compiled", "pipeline", "pipeline, asked for less"],
)
def test_a_batch_is_smaller_where_mllib_scores_it(
    settings: Settings, model: Model, asked: int, given: int
) -> None:
    chosen = settings.model_copy(update={"max_offsets_per_trigger": asked})
    assert _batch(chosen, Served("version", model, "scorer"), partitions=3) == given
