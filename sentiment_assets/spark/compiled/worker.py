"""What runs in a Python worker of Spark: Arrow texts in, Arrow probabilities out, or messages in and tweets out.

It imports neither PySpark nor numba until it is called, so that whoever names it pays nothing.
Does not belong here: the plan (``model``), the function itself (``kernel``).
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sentiment_assets.spark.compiled.tables import NUMBERS, Tables, interleaved

_PACKAGE = "sentiment_assets.spark.compiled"
# On a cluster the package is imported from a zip: then numba's own places, and ours before its own for zips.
_LOCATORS_OF_A_ZIP = (
    "UserProvidedCacheLocator",
    "InTreeCacheLocator",
    "UserWideCacheLocator",
    f"{_PACKAGE}.zipped.CacheOfThisPackage",
    "ZipCacheLocator",
)


def scorer(folder: str, cache: str) -> Callable[[Any], Any]:
    """Function from an Arrow array of lower-cased texts without nulls to one of P(positive).

    Workers live longer than batches: the second call for the same model costs nothing.

    Parameters
    ----------
    folder
        Of the tables.
    cache
        Where numba keeps the compiled function: seconds the first time on a machine, then milliseconds. Where it
        cannot be written numba finds another place.
    """
    return _scorer(folder, cache, (Path(folder) / NUMBERS).stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _scorer(folder: str, cache: str, written_at: int) -> Callable[[Any], Any]:
    del written_at  # tables compiled anew in the same place are other tables
    use_cache(cache)
    from sentiment_assets.spark.compiled.kernel import score_texts

    tables = Tables.load(Path(folder))
    classes, order, intercept = tables.classes, tables.order, tables.intercept
    words = interleaved(tables.word_slots, tables.word_values)
    pieces = interleaved(tables.piece_slots, tables.piece_values)

    def score(texts: Any) -> Any:
        data, offsets = buffers(texts)
        result = np.empty(len(texts), np.float64)
        score_texts(data, offsets, classes, words, pieces, order, intercept, result)
        return pa.array(result)

    return score


@dataclass(frozen=True)
class Plain:
    """The plain messages among some.

    Attributes
    ----------
    plain
        Whether each message is one, bool.
    count
        How many are.
    ids, authors, times, texts, lowered
        Arrow arrays, a value for each plain message; null where it lacks that field. ``lowered`` is the text as
        ``text.lowered`` makes it.
    """

    plain: Any
    count: int
    ids: Any
    authors: Any
    times: Any
    texts: Any
    lowered: Any


def reader(cache: str) -> Callable[[Any], Plain]:
    """Function from an Arrow array of messages' bytes to what can be read of them without doubt (``messages``).

    Parameters
    ----------
    cache
        As for :func:`scorer`.
    """
    use_cache(cache)
    from sentiment_assets.spark.compiled.messages import lower_cases, read_messages

    lower = lower_cases()

    def read(values: Any) -> Plain:
        data, offsets = buffers(values)
        rows, room = len(values), int(offsets[-1] - offsets[0])
        plain = np.empty(rows, np.bool_)
        ids, authors, texts, lowered = (np.empty(room, np.uint8) for _ in range(4))
        id_ends, author_ends, text_ends, lowered_ends = (np.empty(rows + 1, np.int32) for _ in range(4))
        has_id, has_author, has_time = (np.empty(rows, np.bool_) for _ in range(3))
        times = np.empty(rows, np.int64)
        count = read_messages(
            data,
            offsets,
            lower,
            plain,
            ids,
            id_ends,
            has_id,
            authors,
            author_ends,
            has_author,
            times,
            has_time,
            texts,
            text_ends,
            lowered,
            lowered_ends,
            np.empty((3, 5), np.int64),
        )
        everywhere = np.ones(count, np.bool_)
        return Plain(
            plain,
            count,
            _strings(ids, id_ends, has_id[:count]),
            _strings(authors, author_ends, has_author[:count]),
            pa.array(times[:count], mask=~has_time[:count]).view(pa.timestamp("us", "UTC")),
            _strings(texts, text_ends, everywhere),
            _strings(lowered, lowered_ends, everywhere),
        )

    return read


def _strings(characters: Any, ends: Any, there: Any) -> Any:
    """Arrow strings from their characters, one after the other."""
    rows = len(there)
    nulls = rows - int(np.count_nonzero(there))
    validity = pa.py_buffer(np.packbits(there, bitorder="little")) if nulls else None
    places = pa.py_buffer(ends[: rows + 1])
    content = pa.py_buffer(characters[: ends[rows]])
    return pa.StringArray.from_buffers(rows, places, content, validity, nulls)


def use_cache(cache: str) -> None:
    """Tell numba where compiled functions are kept; call it before ``kernel``, ``terms`` or ``messages`` is imported.

    Numba looks at the file of a function alone, but ``terms`` builds on ``kernel``, ``messages`` on ``characters`` and
    all on ``jit``: so each state of them has a folder.
    """
    os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(cache) / _sources()))
    if not Path(__file__).is_file():
        os.environ.setdefault("NUMBA_CACHE_LOCATOR_CLASSES", ",".join(_LOCATORS_OF_A_ZIP))


@lru_cache(maxsize=1)
def _sources() -> str:
    digest = hashlib.sha256()
    package = resources.files("sentiment_assets.spark")
    for path in ("characters.py", "compiled/jit.py", "compiled/kernel.py", "compiled/terms.py"):
        digest.update(package.joinpath(path).read_bytes())
    return digest.hexdigest()[:12]


def buffers(texts: Any) -> tuple[Any, Any]:
    """The bytes of an Arrow array of strings or binaries, and where each begins and the last one ends.

    Of the same types whatever the array, or numba would compile for each anew, seconds in the middle of a stream.
    """
    _, offsets, data = texts.buffers()
    kind = (
        np.int64 if pa.types.is_large_string(texts.type) or pa.types.is_large_binary(texts.type) else np.int32
    )
    # Arrow may leave out the buffers of an array of nothing.
    places = np.zeros(1, kind) if offsets is None else np.frombuffer(offsets, kind)
    content = np.frombuffer(b"\0" if data is None or not data.size else data, np.uint8)
    content.flags.writeable = False
    return content, places[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
