"""A compiled model as a step of a Spark plan.

Belongs here: the plan around the kernel, and with what a compiled model fits together.
Does not belong here: making one (``export``), deciding that it may serve (``streaming.serving``).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyspark
from pyspark.sql import Column, SparkSession
from pyspark.sql.pandas.functions import arrow_udf
from pyspark.sql.types import DoubleType

from sentiment_assets.spark.compiled.worker import reader, scorer

CODE_VERSION = "1"
"""Raised whenever the same tables would give other scores, or the same model other tables."""


@dataclass(frozen=True)
class CompiledModel:
    """Tables on disk that score like the pipeline they were made from.

    Attributes
    ----------
    folder
        Of the tables (``Tables.save``), readable by every executor under this name.
    cache
        Folder where numba keeps the compiled function.
    """

    folder: Path
    cache: Path

    def probability(self, lowered: Column) -> Column:
        """P(positive) of texts as ``text.lowered`` makes them; the kernel runs in a Python worker over Arrow.

        Parameters
        ----------
        lowered
            Column ``ml_lower``, never null.
        """
        folder, cache = str(self.folder), str(self.cache)

        # Spark reads from the annotations what kind of function it is.
        def probabilities(batches: Iterator[pa.Array]) -> Iterator[pa.Array]:
            score = scorer(folder, cache)
            for texts in batches:
                yield score(texts)

        column: Column = arrow_udf(probabilities, DoubleType())(lowered)  # type: ignore[call-overload]
        return column


def prepare_readers(spark: SparkSession, cache: str) -> None:
    """Let Python workers load what reads messages; the first time on a machine that compiles it, for seconds.

    Parameters
    ----------
    cache
        Where numba keeps the compiled functions.

    Raises
    ------
    PySparkException
        When a worker fails.
    """

    def prepare(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        reader(cache)(pa.array([], pa.binary()))
        yield from batches

    workers = spark.sparkContext.defaultParallelism
    spark.range(0, workers, 1, workers).mapInArrow(prepare, "id BIGINT").collect()


def made_with(spark: SparkSession) -> dict[str, str]:
    """What has to be the same where a model is compiled and where it serves.

    Character classes are Java's, the meaning of SQL functions is Spark's.
    """
    jvm = spark.sparkContext._jvm
    assert jvm is not None  # noqa: S101  a session that runs has its gateway
    return {
        "compiler": CODE_VERSION,
        "java": str(jvm.java.lang.Runtime.version().feature()),
        "pyspark": pyspark.__version__,
    }
