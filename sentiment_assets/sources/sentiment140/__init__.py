"""The Sentiment140 corpus and every file in its format.

Belongs here: the six-column format (``rows``), the checks that stop a broken file before it replaces good
data (``inspection``), the published zip (``published``) and which source a training run uses (``choice``).
Does not belong here: Spark (``spark.raw`` reads the same files in parallel).
"""

from sentiment_assets.sources.sentiment140.inspection import SourceFile, inspect
from sentiment_assets.sources.sentiment140.published import download
from sentiment_assets.sources.sentiment140.rows import ENCODING, LabelledRow, iter_rows

__all__ = ["ENCODING", "LabelledRow", "SourceFile", "download", "inspect", "iter_rows"]
