"""A program: write a Delta table with Spark, and read it again in another JVM.

Belongs here: the smallest use of pyspark, Delta and the jars that shows whether their versions fit.
Does not belong here: judging the outcome (``doctor``).

Delta breaks binary compatibility inside Spark's patch lines (delta #6867, #6888, #6981), often only after the
tenth commit, when the first checkpoint is read: hence twelve commits, and a second process that reads them.
"""

import sys
from pathlib import Path

from sentiment_assets.settings import Settings
from sentiment_assets.spark.session import build_session

COMMITS = 12
ROWS_PER_COMMIT = 10


def write(table: Path) -> None:
    """Append ``COMMITS`` times."""
    spark = build_session(Settings.from_env(), role="stream", app_name="doctor")
    for commit in range(COMMITS):
        rows = spark.range(commit * ROWS_PER_COMMIT, (commit + 1) * ROWS_PER_COMMIT, numPartitions=1)
        rows.write.format("delta").mode("append").save(str(table))
    spark.stop()


def read(table: Path) -> None:
    """Count, compact, count again, and count an old version.

    Raises
    ------
    ValueError
        When a count is not what was written.
    """
    spark = build_session(Settings.from_env(), role="stream", app_name="doctor")

    def expect(rows: int, what: str, version: int | None = None) -> None:
        reader = spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        found = reader.load(str(table)).count()
        if found != rows:
            raise ValueError(f"{what}: {found} rows instead of {rows}")

    expect(COMMITS * ROWS_PER_COMMIT, "after a restart")
    spark.sql(f"OPTIMIZE delta.`{table}`")
    expect(COMMITS * ROWS_PER_COMMIT, "after OPTIMIZE")
    expect(4 * ROWS_PER_COMMIT, "time travel to version 3", version=3)
    spark.stop()


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]))
