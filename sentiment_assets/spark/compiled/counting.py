"""The vocabularies of training texts, counted by compiled loops: the terms and counts that ``vocabulary`` finds.

Where a limit cuts through terms of the same count, ``vocabulary`` keeps the first by spelling, this by hash.

Python workers count hashes of 8 bytes instead of handing strings to Spark, and add up each other's counts by bucket;
only the terms that stay are spelled.
Does not belong here: what the workers do (``learner``), which rows are counted, what follows from the counts.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

from sentiment_assets.spark import text
from sentiment_assets.spark.compiled.export import character_classes
from sentiment_assets.spark.compiled.learner import (
    COUNT,
    PACKED,
    PIECES,
    WORDS,
    added_up,
    counted,
    spelled,
    unpacked,
)
from sentiment_assets.spark.compiled.worker import use_cache
from sentiment_assets.spark.session import KERNEL_CACHE
from sentiment_assets.spark.vocabulary import Vocabulary

FAILURES = (PySparkException, Py4JError, LookupError, OSError, RuntimeError)
"""What compiled loops fail with, numba's own refusals among them; Spark's way is there then."""


def learn_vocabularies(
    rows: DataFrame, *, label: str, order: int, min_documents: int, limits: tuple[int, int]
) -> list[Vocabulary]:
    """Count the distinct terms of each text: of ``text.scoped_terms``, and of ``text.character_ngrams``.

    Parameters
    ----------
    rows
        Columns ``text STRING`` and ``label DOUBLE`` (0.0 or 1.0).
    order
        Length of the character n-grams; 0: none.
    min_documents
        Terms in fewer rows are left out.
    limits
        The most frequent terms kept of words and of character n-grams.

    Returns
    -------
    list of Vocabulary
        Of the words, and of the character n-grams unless ``order`` is 0.
    """
    session = rows.sparkSession
    folder = str(session.conf.get(KERNEL_CACHE))
    use_cache(folder)
    classes = session.sparkContext.broadcast(character_classes(session))
    lowered = rows.selectExpr(f"{label} AS label", *text.lowered(ascii_first=True)).select(
        "label", text.LOWER
    )

    def count(batches: Iterator[Any]) -> Iterator[Any]:
        yield from counted(batches, classes.value, order, folder)

    def add_up(group: Any) -> Any:
        return added_up(group, min_documents)

    totals = (
        lowered.mapInArrow(count, PACKED)
        .groupBy("view", "bucket")
        .applyInArrow(add_up, PACKED)
        .select("view", "counts")
        .toArrow()
    )
    kept = [_most_frequent(totals, view, limits[view]) for view in (WORDS, PIECES)]
    wanted = session.sparkContext.broadcast([one["hash"] for one in kept])

    def spell(batches: Iterator[Any]) -> Iterator[Any]:
        yield from spelled(batches, classes.value, order, wanted.value, folder)

    spellings = (
        lowered.select(text.LOWER).mapInArrow(spell, "view TINYINT, places BINARY, terms STRING").toArrow()
    )
    number = rows.count()
    views = (WORDS, PIECES) if order else (WORDS,)
    return [
        _vocabulary(kept[view], _terms(spellings, view, len(kept[view]["hash"])), number) for view in views
    ]


def _most_frequent(totals: Any, view: int, limit: int) -> dict[str, Any]:
    """Hashes with their counts, the most frequent first."""
    found = unpacked(totals.filter(pc.equal(totals["view"], view)))
    order = np.lexsort((found["hash"].view(np.int64), -found["documents"]))[:limit]
    return {name: found[name][order] for name in COUNT.names or ()}


def _terms(spellings: Any, view: int, number: int) -> Any:
    """The term at each place; every worker may have spelled it."""
    chosen = spellings.filter(pc.equal(spellings["view"], view))
    where = np.frombuffer(b"".join(chosen["places"].to_pylist()), np.int32)
    terms = [term for several in chosen["terms"].to_pylist() for term in several.split("\n")]
    places, first = np.unique(where, return_index=True)
    if len(places) != number:
        raise LookupError(f"{number - len(places)} of {number} terms were counted and not found again")
    return pa.array(terms, pa.string()).take(pa.array(first))


def _vocabulary(kept: dict[str, Any], terms: Any, rows: int) -> Vocabulary:
    table = pa.table({"term": terms, "documents": kept["documents"], "positive": kept["positive"]}).sort_by(
        [("documents", "descending"), ("term", "ascending")]
    )
    return Vocabulary(
        terms=tuple(table["term"].to_pylist()),
        documents=table["documents"].to_numpy().astype(np.float64),
        positive=table["positive"].to_numpy().astype(np.float64),
        rows=rows,
    )
