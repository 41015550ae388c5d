"""What runs in a Python worker of Spark: Arrow texts in, Arrow probabilities out.

It imports neither PySpark nor numba until it is called, so that whoever names it pays nothing.
Does not belong here: the plan (``model``), the function itself (``kernel``).
"""

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sentiment_assets.spark.compiled.tables import NUMBERS, Tables

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

    def score(texts: Any) -> Any:
        data, offsets = buffers(texts)
        result = np.empty(len(texts), np.float64)
        score_texts(
            data,
            offsets,
            tables.classes,
            tables.word_slots,
            tables.word_values,
            tables.piece_slots,
            tables.piece_values,
            tables.order,
            tables.intercept,
            result,
        )
        return pa.array(result)

    return score


def use_cache(cache: str) -> None:
    """Tell numba where compiled functions are kept; call it before ``kernel`` or ``terms`` is imported.

    Numba looks at the file of a function alone, and ``terms`` builds on ``kernel``: so each state of both has a folder.
    """
    os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(cache) / _sources()))
    if not Path(__file__).is_file():
        os.environ.setdefault("NUMBA_CACHE_LOCATOR_CLASSES", ",".join(_LOCATORS_OF_A_ZIP))


@lru_cache(maxsize=1)
def _sources() -> str:
    digest = hashlib.sha256()
    for name in ("kernel.py", "terms.py"):
        digest.update(resources.files(_PACKAGE).joinpath(name).read_bytes())
    return digest.hexdigest()[:12]


def buffers(texts: Any) -> tuple[Any, Any]:
    """The bytes of an Arrow string array, and where each text begins and the last one ends.

    Of the same types whatever the array, or numba would compile for each anew, seconds in the middle of a stream.
    """
    _, offsets, data = texts.buffers()
    kind = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    # Arrow may leave out the buffers of an array of nothing.
    places = np.zeros(1, kind) if offsets is None else np.frombuffer(offsets, kind)
    content = np.frombuffer(b"\0" if data is None or not data.size else data, np.uint8)
    content.flags.writeable = False
    return content, places[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
