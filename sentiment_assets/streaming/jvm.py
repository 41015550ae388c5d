"""The door to the Spark JVM, for the little that Spark's Python API does not offer (a lock, a clock, a flag)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def jvm(spark: "SparkSession") -> Any:
    """Root of the Java packages; every call on it is one round trip of about a millisecond."""
    return spark._jvm
