"""Made-up labelled tweets that the Spark tests train on."""

import random
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_GOOD = ("love", "great", "happy", "awesome", "thanks", "sunny", "yay")
_BAD = ("sad", "awful", "miss", "sick", "tired", "rain", "ugh")
_PLAIN = (
    "today",
    "work",
    "the bus",
    "my cat",
    "coffee",
    "school",
    "this movie",
    "home",
    "lunch",
    "the phone",
)


def made_up_tweets(n: int, seed: int = 7) -> list[tuple[str, float]]:
    """``n`` (text, label) rows, half of them positive, with one misleading word in ten rows."""
    random_ = random.Random(seed)
    rows = []
    for index in range(n):
        positive = index % 2 == 0
        own, other = (_GOOD, _BAD) if positive else (_BAD, _GOOD)
        words = [random_.choice(_PLAIN), random_.choice(own), random_.choice(_PLAIN), random_.choice(own)]
        if random_.random() < 0.1:
            words.append(random_.choice(other))
        rows.append((f"@user{index} {' '.join(words)}!!! &amp; more", 1.0 if positive else 0.0))
    return rows


@pytest.fixture(scope="session")
def labelled(spark: "SparkSession") -> "DataFrame":
    """Columns ``text, label``: 300 made-up tweets, cached."""
    return spark.createDataFrame(made_up_tweets(300), "text STRING, label DOUBLE").coalesce(2).cache()
