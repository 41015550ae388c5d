"""The vocabularies of training texts, counted by compiled loops: the terms and counts that ``vocabulary`` finds.

Where a limit cuts through terms of the same count, ``vocabulary`` keeps the first by spelling, this by hash.

Python workers count hashes of 8 bytes instead of handing strings to Spark, and add up each other's counts by bucket;
only the terms that stay are spelled.
Does not belong here: the loops (``terms``), which rows are counted, what follows from the counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame

from sentiment_assets.spark import text
from sentiment_assets.spark.compiled.export import character_classes
from sentiment_assets.spark.compiled.worker import buffers, use_cache
from sentiment_assets.spark.session import KERNEL_CACHE
from sentiment_assets.spark.vocabulary import Vocabulary

FAILURES = (PySparkException, Py4JError, LookupError, OSError, RuntimeError)
"""What compiled loops fail with, numba's own refusals among them; Spark's way is there then."""

_WORDS, _PIECES = 0, 1
_FIRST_SLOTS, _MOST_SLOTS = 1 << 16, 1 << 23
"""A table of a worker grows up to 8 M slots (200 MB); then it is handed over and begun anew."""
_LETTERS = 1 << 22

_COUNT = np.dtype([("hash", "<u8"), ("documents", "<i4"), ("positive", "<i4")])
_BUCKET_SHIFT = np.uint64(58)
"""Bucket of a hash: its first six bits."""
_PACKED = "view TINYINT, bucket INT, counts BINARY"
"""Many counts in one row: millions of rows of one count each cost Spark seconds to add up."""


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
    lowered = rows.selectExpr(f"{label} AS label", *text.lowered()).select("label", text.LOWER)

    def count(batches: Iterator[Any]) -> Iterator[Any]:
        yield from _counted(batches, classes.value, order, folder)

    def add_up(group: Any) -> Any:
        return _added_up(group, min_documents)

    totals = (
        lowered.mapInArrow(count, _PACKED)
        .groupBy("view", "bucket")
        .applyInArrow(add_up, _PACKED)
        .select("view", "counts")
        .toArrow()
    )
    kept = [_most_frequent(totals, view, limits[view]) for view in (_WORDS, _PIECES)]
    wanted = session.sparkContext.broadcast([one["hash"] for one in kept])

    def spell(batches: Iterator[Any]) -> Iterator[Any]:
        yield from _spelled(batches, classes.value, order, wanted.value, folder)

    spelled = (
        lowered.select(text.LOWER).mapInArrow(spell, "view TINYINT, places BINARY, terms STRING").toArrow()
    )
    number = rows.count()
    views = (_WORDS, _PIECES) if order else (_WORDS,)
    return [_vocabulary(kept[view], _terms(spelled, view, len(kept[view]["hash"])), number) for view in views]


def _most_frequent(totals: Any, view: int, limit: int) -> dict[str, Any]:
    """Hashes with their counts, the most frequent first."""
    found = _unpacked(totals.filter(pc.equal(totals["view"], view)))
    order = np.lexsort((found["hash"].view(np.int64), -found["documents"]))[:limit]
    return {name: found[name][order] for name in _COUNT.names or ()}


def _unpacked(table: Any) -> npt.NDArray[np.void]:
    return np.frombuffer(b"".join(table["counts"].to_pylist()), _COUNT)


def _packed(view: int, buckets: npt.NDArray[np.int32], counts: list[bytes]) -> Any:
    columns = [
        pa.array(np.full(len(buckets), view, np.int8)),
        pa.array(buckets),
        pa.array(counts, pa.binary()),
    ]
    return pa.RecordBatch.from_arrays(columns, names=["view", "bucket", "counts"])


def _added_up(group: Any, min_documents: int) -> Any:
    """In a worker: the totals of one bucket, without the hashes of too few texts."""
    every = _unpacked(group)
    every = every[np.argsort(every["hash"])]
    begins = np.flatnonzero(np.r_[True, every["hash"][1:] != every["hash"][:-1]])
    totals = every[begins]
    for name in ("documents", "positive"):
        totals[name] = np.add.reduceat(every[name], begins)
    kept = totals[totals["documents"] >= min_documents].tobytes()
    view, bucket = group["view"][0].as_py(), group["bucket"].to_numpy()[:1]
    return pa.Table.from_batches([_packed(view, bucket, [kept])])


def _terms(spelled: Any, view: int, number: int) -> Any:
    """The term at each place; every worker may have spelled it."""
    chosen = spelled.filter(pc.equal(spelled["view"], view))
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


@dataclass
class _Counts:
    """One view's table in a worker: hashes, (texts, positive texts), the last text that counted."""

    keys: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.int32]
    stamps: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, slots: int) -> "_Counts":
        return cls(np.zeros(slots, np.uint64), np.zeros((slots, 2), np.int32), np.full(slots, -1, np.int64))

    def grown(self) -> "_Counts":
        from sentiment_assets.spark.compiled.terms import grow

        larger = self.empty(2 * len(self.keys))
        grow(self.keys, self.counts, self.stamps, larger.keys, larger.counts, larger.stamps)
        return larger

    def packed(self, view: int) -> Any:
        """The counts, those of each bucket in one row."""
        taken = np.flatnonzero(self.keys)
        bucket = (self.keys[taken] >> _BUCKET_SHIFT).astype(np.int32)
        order = np.argsort(bucket, kind="stable")
        counts = np.empty(len(taken), _COUNT)
        counts["hash"] = self.keys[taken][order]
        counts["documents"], counts["positive"] = self.counts[taken][order].T
        numbers, begins = np.unique(bucket[order], return_index=True)
        parts = np.split(counts, begins[1:]) if len(numbers) else []
        return _packed(view, numbers, [part.tobytes() for part in parts])


def _counted(batches: Iterator[Any], classes: Any, order: int, cache: str) -> Iterator[Any]:
    """In a worker: the counts of one partition."""
    use_cache(cache)
    from sentiment_assets.spark.compiled.terms import count_terms

    tables = [_Counts.empty(_FIRST_SLOTS), _Counts.empty(_FIRST_SLOTS)]
    used, lacking = np.zeros(2, np.int64), np.zeros(2, np.int64)
    seen = 0
    for batch in batches:
        data, offsets = buffers(batch.column(1))
        labels = batch.column(0).to_numpy()
        done = 0
        while done < batch.num_rows:
            words, pieces = tables
            done = count_terms(
                data, offsets, labels, done, classes, order, seen,
                words.keys, words.counts, words.stamps, pieces.keys, pieces.counts, pieces.stamps, used,
                lacking,
            )  # fmt: skip
            if done == batch.num_rows:
                break
            for view in np.flatnonzero(lacking).tolist():
                if len(tables[view].keys) >= _MOST_SLOTS and used[view]:
                    yield tables[view].packed(view)
                    tables[view], used[view] = _Counts.empty(_FIRST_SLOTS), 0
                while len(tables[view].keys) < 2 * (used[view] + lacking[view]):
                    tables[view] = tables[view].grown()
        seen += batch.num_rows
    for view in (_WORDS, _PIECES):
        yield tables[view].packed(view)


def _spelled(
    batches: Iterator[Any], classes: Any, order: int, wanted: list[Any], cache: str
) -> Iterator[Any]:
    """In a worker: the wanted terms that occur in one partition, each once.

    Many a row, with a line feed between them, which no term holds: half a million rows cost Spark seconds.
    """
    use_cache(cache)
    from sentiment_assets.spark.compiled.terms import indexed, letters_needed, spell_terms

    words, pieces = (indexed(hashes) for hashes in wanted)
    done = [np.zeros(len(hashes), np.bool_) for hashes in wanted]
    found = [np.empty((len(hashes) + 1, 3), np.int64) for hashes in wanted]
    letters = np.empty(_LETTERS, np.uint32)
    state = np.zeros(3, np.int64)
    for batch in batches:
        data, offsets = buffers(batch.column(0))
        row = 0
        while row < batch.num_rows:
            row = spell_terms(
                data, offsets, row, classes, order, words[0], words[1], done[0], pieces[0], pieces[1], done[1],
                letters, found[0], found[1], state,
            )  # fmt: skip
            if state[0] == 0 and row < batch.num_rows:
                longest = 4 * int(np.diff(offsets).max()) + 16
                letters = np.empty(letters_needed(longest, longest, order), np.uint32)
                continue
            spelling = letters[: state[0]].tobytes().decode("utf-32-le")
            for view in (_WORDS, _PIECES):
                chosen = found[view][: state[1 + view]]
                if len(chosen):
                    yield pa.RecordBatch.from_arrays(
                        [
                            pa.array([view], pa.int8()),
                            pa.array([chosen[:, 0].astype(np.int32).tobytes()]),
                            pa.array(["\n".join(spelling[begin:end] for _, begin, end in chosen.tolist())]),
                        ],
                        names=["view", "places", "terms"],
                    )
            state[:] = 0
