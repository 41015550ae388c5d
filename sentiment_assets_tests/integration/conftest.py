"""What the tests of the stream start from."""

from typing import TYPE_CHECKING

import pytest

from sentiment_assets_tests.integration.stream_helpers import drain, fresh_stream, send, tweet

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from sentiment_assets.settings import Settings


@pytest.fixture(scope="module")
def live(spark: "SparkSession", broker: str, tmp_path_factory: pytest.TempPathFactory) -> "Settings":
    """A stream that has scored 20 messages."""
    settings = fresh_stream(spark, tmp_path_factory.mktemp("live") / "home", broker)
    send(settings, (tweet(n) for n in range(20)))
    drain(spark, settings)
    return settings
