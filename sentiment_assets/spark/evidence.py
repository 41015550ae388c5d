"""What a candidate showed on the test rows, kept beside its model: every score, and its most telling terms.

Belongs here: the two files. Does not belong here: what is made of them (``reports``).

With them a report, a curve or a comparison of two models needs neither Spark nor the test rows: reading them takes
milliseconds. A score takes 16 bytes, 5 MB for the 320,000 test rows of the whole corpus.
"""

import json
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sentiment_assets.spark.evaluation import ScoredRows
from sentiment_assets.spark.explain import TellingTerms

_FOLDER = "evidence"
_SCORES = "scores.parquet"
_TERMS = "terms.json"


def write_evidence(version: Path, rows: ScoredRows, terms: TellingTerms) -> None:
    """Write both files below the folder of a model version that is being stored."""
    folder = version / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {"key": rows.key, "report": rows.report, "positive": rows.positive, "probability": rows.probability}
    )
    # Through a file object: the folder may lie in an object store, whose paths pyarrow does not take.
    with (folder / _SCORES).open("wb") as file:
        pq.write_table(table, file, compression="zstd")
    (folder / _TERMS).write_text(json.dumps(asdict(terms), ensure_ascii=False), encoding="utf-8")


def read_scores(version: Path) -> ScoredRows | None:
    """The scores of the test rows; None for a version of before they were kept."""
    path = version / _FOLDER / _SCORES
    if not path.is_file():
        return None
    with path.open("rb") as file:
        table = pq.read_table(file)
    return ScoredRows.of(
        table["key"].to_numpy(),
        table["report"].to_numpy(),
        table["positive"].to_numpy(),
        table["probability"].to_numpy(),
    )


def read_terms(version: Path) -> TellingTerms | None:
    """The most telling terms; None for a version of before they were kept."""
    path = version / _FOLDER / _TERMS
    if not path.is_file():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    positive, negative = (
        tuple((str(term), float(weight)) for term, weight in stored[side])
        for side in ("positive", "negative")
    )
    return TellingTerms(positive, negative, stored["note"])
