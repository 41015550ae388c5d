"""From a fitted pipeline to the tables of the kernel.

Belongs here: which pipelines have a kernel, and reading their stages. Character classes are asked of the JVM, whose
Unicode is not Python's. Does not belong here: whether the result agrees (``agreement``).
"""

import contextlib
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from pyspark.ml import PipelineModel
from pyspark.ml.feature import (
    CountVectorizerModel,
    ElementwiseProduct,
    Normalizer,
    SQLTransformer,
    VectorAssembler,
)
from pyspark.sql import SparkSession

from sentiment_assets.spark import text
from sentiment_assets.spark.compiled.tables import Tables
from sentiment_assets.spark.compiled.worker import use_cache
from sentiment_assets.spark.linear import Linear, linear_part
from sentiment_assets.spark.session import KERNEL_CACHE
from sentiment_assets.spark.text import FEATURES
from sentiment_assets.spark.vocabulary import vocabulary_of

FloatArray = npt.NDArray[np.float64]

_ORDERS = range(1, 9)
_SURROGATES = range(0xD800, 0xE000)


class NotCompilableError(Exception):
    """The pipeline has no kernel; the message says why, as half a sentence."""


@dataclass(frozen=True)
class View:
    """One of the vectors that are normalised apart: its terms, each ended by a line feed."""

    terms: str
    idf: FloatArray
    by_words: bool


def export_tables(model: PipelineModel) -> Tables:
    """Read a fitted pipeline of the variant ``nb_ngrams`` with a linear classifier.

    Parameters
    ----------
    model
        From ``text`` to ``ml_probability``.

    Raises
    ------
    NotCompilableError
        When it is another variant, its text rules are not the current ones, its classifier is not linear, or two
        of its terms have the same hash.
    """
    use_cache(str(SparkSession.active().conf.get(KERNEL_CACHE)))
    stages: list[Any] = list(model.stages)
    order = check_text_rules([stage for stage in stages if isinstance(stage, SQLTransformer)])
    linear = linear_part(model)
    if linear is None:
        raise NotCompilableError("its classifier is not linear")
    views = [read_view(stages, column) for column in term_columns(order)]
    scale = linear.weights * read_ratios(stages, [f"{column}_unit" for column in term_columns(order)])
    if len(scale) != sum(len(view.idf) for view in views):
        raise NotCompilableError("its features are not those of its vocabularies")
    words, *pieces = _slots(views, scale)
    piece_slots, piece_values = pieces[0] if pieces else (np.zeros(1, np.uint64), np.zeros((1, 2)))
    return Tables(
        classes=character_classes(SparkSession.active()),
        word_slots=words[0],
        word_values=words[1],
        piece_slots=piece_slots,
        piece_values=piece_values,
        order=order,
        intercept=_finite(linear),
    )


def frequent_terms(model: PipelineModel, count: int) -> list[str]:
    """The most frequent terms of the first vocabulary of a model."""
    vocabularies = (stage for stage in model.stages if isinstance(stage, CountVectorizerModel))
    return vocabulary_of(next(vocabularies))[:count]


def term_columns(order: int) -> list[str]:
    """Columns of terms that the variant has."""
    return [text.TERMS, text.PIECES] if order else [text.TERMS]


def check_text_rules(stages: list[Any]) -> int:
    """Length of the character n-grams (0: none) of text rules that are the current ones, word for word."""
    found = [stage.getStatement() for stage in stages]
    words = [stage.getStatement() for stage in (text.clean_tokens(), text.scoped_terms())]
    orders = {(text.character_ngrams(order).getStatement(),): order for order in _ORDERS} | {(): 0}
    rest = tuple(found[2:])
    if found[:2] != words or rest not in orders:
        raise NotCompilableError("its features or its text rules are others than nb_ngrams has here")
    return orders[rest]


def read_view(stages: list[Any], column: str) -> View:
    """The stages from one array of terms to a vector of norm 1, as ``features`` builds them."""
    counts, weighted, unit = (f"{column}_unit{suffix}" for suffix in ("_tf", "_tfidf", ""))
    vectorizer, product, normalizer = (_producer(stages, name) for name in (counts, weighted, unit))
    sound = (
        isinstance(vectorizer, CountVectorizerModel)
        and isinstance(product, ElementwiseProduct)
        and isinstance(normalizer, Normalizer)
        and (vectorizer.getInputCol(), product.getInputCol(), normalizer.getInputCol())
        == (column, counts, weighted)
        and (vectorizer.getBinary(), vectorizer.getMinTF(), normalizer.getP()) == (True, 1.0, 2.0)
    )
    if not sound:
        raise NotCompilableError(f"its stages behind {column} are not those of nb_ngrams")
    terms = "".join(f"{term}\n" for term in vocabulary_of(vectorizer))
    idf = np.asarray(product.getScalingVec().toArray())
    if terms.count("\n") != len(idf):
        raise NotCompilableError("one of its terms holds a line break")
    return View(terms, idf, by_words=column == text.TERMS)


def read_ratios(stages: list[Any], units: list[str]) -> FloatArray:
    """The weights between the assembled vectors of norm 1 and ``ml_features``."""
    product = _producer(stages, FEATURES)
    if isinstance(product, ElementwiseProduct):
        assembler = _producer(stages, product.getInputCol())
        if isinstance(assembler, VectorAssembler) and list(assembler.getInputCols()) == units:
            return np.asarray(product.getScalingVec().toArray())
    raise NotCompilableError(f"its stage for {FEATURES} is not that of nb_ngrams")


def _producer(stages: list[Any], column: str) -> Any:
    """The stage that writes ``column``, or None."""
    made = (s for s in stages if s.hasParam("outputCol") and s.getOutputCol() == column)
    return next(made, None)


def _finite(linear: Linear) -> float:
    if not (np.isfinite(linear.intercept) and np.isfinite(linear.weights).all()):
        raise NotCompilableError("its weights are not all finite numbers")
    return float(linear.intercept)


def _slots(views: list[View], scale: FloatArray) -> list[tuple[npt.NDArray[np.uint64], FloatArray]]:
    """A hash table for each view, at most half full."""
    from sentiment_assets.spark.compiled.kernel import fill_slots

    tables = []
    begin = 0
    for view in views:
        hashes = view_hashes(view)
        size = 1 << max(1, int(2 * len(hashes) - 1).bit_length())
        slots, places = np.zeros(size, np.uint64), np.empty(len(hashes), np.int64)
        if fill_slots(hashes, slots, places) >= 0:
            raise NotCompilableError("two of its terms have the same hash")
        values = np.zeros((size, 2))
        values[places, 0] = view.idf * scale[begin : begin + len(hashes)]
        values[places, 1] = view.idf**2
        tables.append((slots, values))
        begin += len(hashes)
    return tables


def view_hashes(view: View) -> npt.NDArray[np.uint64]:
    """Hash of each term of a vocabulary, in its order."""
    from sentiment_assets.spark.compiled.kernel import hash_terms

    hashes = np.empty(len(view.idf), np.uint64)
    hash_terms(np.frombuffer(view.terms.encode("utf-32-le"), np.uint32), view.by_words, hashes)
    return hashes


@lru_cache(maxsize=1)
def character_classes(spark: SparkSession) -> npt.NDArray[np.uint8]:
    """Class bits of every code point, as the regular expressions of this JVM see them.

    Asking takes two seconds, so the answer is kept beside what numba compiles, under the JVM's release.
    """
    jvm = spark.sparkContext._jvm
    assert jvm is not None  # noqa: S101  a session that runs has its gateway
    rules = _class_rules()
    system = jvm.java.lang.System
    release = system.getProperty("java.vm.version"), system.getProperty("java.runtime.version")
    key = hashlib.sha256(repr((release, rules)).encode()).hexdigest()[:12]
    kept = Path(str(spark.conf.get(KERNEL_CACHE))) / f"character-classes-{key}.npy"
    from sentiment_assets.spark.compiled.kernel import CODE_POINTS

    with contextlib.suppress(OSError, ValueError, EOFError):
        classes: npt.NDArray[np.uint8] = np.load(kept, allow_pickle=False)
        if classes.shape == (CODE_POINTS,) and classes.dtype == np.uint8:
            return classes
    classes = _ask_for_classes(jvm, rules)
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        # A whole file or none, whoever else writes it.
        with TemporaryDirectory(dir=kept.parent) as folder:
            np.save(Path(folder) / kept.name, classes)
            (Path(folder) / kept.name).replace(kept)
    return classes


def _class_rules() -> tuple[tuple[int, str, str], ...]:
    """Bit of each class, its expression, and the character that marks what it finds (the last: all but line ends)."""
    from sentiment_assets.spark.compiled.kernel import LETTER, LINE_END, SPACE, WORD

    return (
        (LETTER, r"\p{L}", "x"),
        (WORD, r"[\p{L}\p{N}_]", "x"),
        (SPACE, r"[\s\p{Z}]", " "),
        (LINE_END, ".", "x"),
    )


def _ask_for_classes(jvm: Any, rules: Iterable[tuple[int, str, str]]) -> npt.NDArray[np.uint8]:
    """Class bits of every code point, asked of the JVM.

    Each expression puts a character of the class in place of each member, so the members are where that character
    stands afterwards.
    """
    from sentiment_assets.spark.compiled.kernel import CODE_POINTS

    codes = np.array([code for code in range(CODE_POINTS) if code not in _SURROGATES], np.uint32)
    every = codes.tobytes().decode("utf-32-le")
    classes = np.zeros(CODE_POINTS, np.uint8)
    for bit, rule, member in rules:
        found = jvm.java.util.regex.Pattern.compile(rule).matcher(every).replaceAll(member)
        marked = np.frombuffer(found.encode("utf-32-le"), np.uint32) == ord(member)
        classes[codes] |= np.where(marked != (rule == "."), bit, 0).astype(np.uint8)
    return classes
