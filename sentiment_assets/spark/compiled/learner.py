"""What runs in a Python worker of Spark while features are learned: counts of terms, their spelling, vectors.

It imports neither PySpark nor numba until it is called: a worker that imported pyspark.ml with it began a second and a
half later. Does not belong here: the plans (``counting``, ``vectors``), the loops (``terms``).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sentiment_assets.spark.compiled.worker import buffers, use_cache

FloatArray = npt.NDArray[np.float64]

WORDS, PIECES = 0, 1
_FIRST_SLOTS, _MOST_SLOTS = 1 << 16, 1 << 23
"""A table of a worker grows up to 8 M slots (200 MB); then it is handed over and begun anew."""
_LETTERS = 1 << 22
_SPARSE = 0
"""Kind of a vector as MLlib writes it."""

COUNT = np.dtype([("hash", "<u8"), ("documents", "<i4"), ("positive", "<i4")])
_BUCKET_SHIFT = np.uint64(58)
"""Bucket of a hash: its first six bits."""
PACKED = "view TINYINT, bucket INT, counts BINARY"
"""Many counts in one row: millions of rows of one count each cost Spark seconds to add up."""


@dataclass(frozen=True)
class FeatureTables:
    """What the loops need of one fitted pipeline.

    Attributes
    ----------
    classes
        Class bits of each code point.
    order
        Length of the character n-grams; 0: none.
    word_hashes, piece_hashes
        Hash of each term of a vocabulary, in its order.
    word_idf, piece_idf
        Inverse document frequency of each.
    ratio
        Weight of each feature, words first.
    name
        Of these very tables, for a worker that keeps what it made of them.
    """

    classes: npt.NDArray[np.uint8]
    order: int
    word_hashes: npt.NDArray[np.uint64]
    word_idf: FloatArray
    piece_hashes: npt.NDArray[np.uint64]
    piece_idf: FloatArray
    ratio: FloatArray
    name: str


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
        counts = np.empty(len(taken), COUNT)
        counts["hash"] = self.keys[taken][order]
        counts["documents"], counts["positive"] = self.counts[taken][order].T
        numbers, begins = np.unique(bucket[order], return_index=True)
        parts = np.split(counts, begins[1:]) if len(numbers) else []
        return _packed(view, numbers, [part.tobytes() for part in parts])


def counted(batches: Iterator[Any], classes: Any, order: int, cache: str) -> Iterator[Any]:
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
    for view in (WORDS, PIECES):
        yield tables[view].packed(view)


def spelled(batches: Iterator[Any], classes: Any, order: int, wanted: list[Any], cache: str) -> Iterator[Any]:
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
            for view in (WORDS, PIECES):
                chosen = found[view][: state[1 + view]]
                if len(chosen):
                    places = zip(chosen[:, 1].tolist(), chosen[:, 2].tolist(), strict=True)
                    yield pa.RecordBatch.from_arrays(
                        [
                            pa.array([view], pa.int8()),
                            pa.array([chosen[:, 0].astype(np.int32).tobytes()]),
                            pa.array(["\n".join(spelling[begin:end] for begin, end in places)]),
                        ],
                        names=["view", "places", "terms"],
                    )
            state[:] = 0


def unpacked(table: Any) -> npt.NDArray[np.void]:
    return np.frombuffer(b"".join(table["counts"].to_pylist()), COUNT)


def _packed(view: int, buckets: npt.NDArray[np.int32], counts: list[bytes]) -> Any:
    columns = [
        pa.array(np.full(len(buckets), view, np.int8)),
        pa.array(buckets),
        pa.array(counts, pa.binary()),
    ]
    return pa.RecordBatch.from_arrays(columns, names=["view", "bucket", "counts"])


def added_up(group: Any, min_documents: int) -> Any:
    """In a worker: the totals of one bucket, without the hashes of too few texts."""
    every = unpacked(group)
    every = every[np.argsort(every["hash"])]
    begins = np.flatnonzero(np.r_[True, every["hash"][1:] != every["hash"][:-1]])
    totals = every[begins]
    for name in ("documents", "positive"):
        totals[name] = np.add.reduceat(every[name], begins)
    kept = totals[totals["documents"] >= min_documents].tobytes()
    view, bucket = group["view"][0].as_py(), group["bucket"].to_numpy()[:1]
    return pa.Table.from_batches([_packed(view, bucket, [kept])])


def batch_vectors(batch: Any, tables: FeatureTables, cache: str, names: list[str]) -> Any:
    """Labels and vectors, in columns of these names, of one Arrow batch of labels and lower-cased texts."""
    use_cache(cache)
    from sentiment_assets.spark.compiled.terms import make_vectors

    word_keys, word_places, piece_keys, piece_places = _index(tables)
    data, offsets = buffers(batch.column(1))
    starts, numbers, values = make_vectors(
        data, offsets, tables.classes, tables.order,
        word_keys, word_places, tables.word_idf, piece_keys, piece_places, tables.piece_idf, tables.ratio,
    )  # fmt: skip
    rows = batch.num_rows
    content = pa.StructArray.from_arrays(
        [
            pa.array(np.full(rows, _SPARSE, np.int8)),
            pa.array(np.full(rows, len(tables.ratio), np.int32)),
            pa.ListArray.from_arrays(pa.array(starts), pa.array(numbers)),
            pa.ListArray.from_arrays(pa.array(starts), pa.array(values)),
        ],
        names=["type", "size", "indices", "values"],
    )
    return pa.RecordBatch.from_arrays([batch.column(0), content], names=names)


def _index(tables: FeatureTables) -> tuple[Any, ...]:
    """Hash tables of both vocabularies; a worker makes them once and keeps those of the last pipeline."""
    from sentiment_assets.spark.compiled.terms import indexed

    if tables.name not in _kept:
        _kept.clear()
        _kept[tables.name] = (*indexed(tables.word_hashes), *indexed(tables.piece_hashes))
    return _kept[tables.name]


_kept: dict[str, tuple[Any, ...]] = {}
