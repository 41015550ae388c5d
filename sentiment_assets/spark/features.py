"""Feature variants: from ``text`` to a vector, each a pipeline fitted on training rows only.

Belongs here: what is learned from the training rows before any classifier (vocabularies, document frequencies,
class ratios) and the table of variants. Does not belong here: the text rules (``text``), classifiers (``training``).

The published variants use MLlib's estimators as their authors did. Ours takes vocabulary, document frequencies and
class counts from one count of the distinct terms of each row (``compiled.counting``; ``vocabulary`` where that fails).
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field
from pyspark.errors import IllegalArgumentException
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.feature import (
    IDF,
    CountVectorizer,
    ElementwiseProduct,
    HashingTF,
    NGram,
    Normalizer,
    Tokenizer,
    UnivariateFeatureSelector,
    VectorAssembler,
)
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sentiment_assets.failures import TrainingError, first_line, last_line
from sentiment_assets.spark import text
from sentiment_assets.spark.compiled.counting import FAILURES, learn_vocabularies
from sentiment_assets.spark.compiled.vectors import vectors
from sentiment_assets.spark.params import Params
from sentiment_assets.spark.text import FEATURES, LABEL
from sentiment_assets.spark.vocabulary import Vocabulary, count_vectorizer, learn_vocabulary

log = logging.getLogger(__name__)

MINIMUM_ROWS = 100
"""Fewer training rows than this cannot carry a vocabulary, let alone a figure worth reading."""

Profile = Literal["quick", "full"]


class HashingParams(Params):
    """Settings of the hashing variant."""

    buckets: int = Field(default=2**16, ge=2, le=2**24, description="Hash buckets, one feature each.")
    min_documents: int = Field(
        default=5, ge=0, description="A bucket in fewer training rows gets the weight 0."
    )


class HashingDefaultParams(HashingParams):
    """Settings of the published hashing variant that leaves MLlib's defaults as they are."""

    buckets: int = Field(default=2**18, ge=2, le=2**24, description="Hash buckets, one feature each.")
    min_documents: int = Field(
        default=0, ge=0, description="A bucket in fewer training rows gets the weight 0."
    )


class CountParams(Params):
    """Settings of the variants with one vocabulary of words."""

    vocabulary_size: int = Field(default=2**16, ge=1, le=2**24, description="Most frequent words kept.")
    min_documents: int = Field(
        default=5, ge=0, description="A word in fewer training rows gets the weight 0."
    )


class CountDefaultParams(CountParams):
    """Settings of the published vocabulary of words that leaves MLlib's defaults as they are."""

    vocabulary_size: int = Field(default=2**18, ge=1, le=2**24, description="Most frequent words kept.")
    min_documents: int = Field(
        default=0, ge=0, description="A word in fewer training rows gets the weight 0."
    )


class CappedParams(CountParams):
    """Settings of the small vocabulary for trees."""

    vocabulary_size: int = Field(default=2**11, ge=1, le=2**12, description="Most frequent words kept.")


class NgramParams(Params):
    """Settings of the published 1-2-3-grams."""

    vocabulary_size: int = Field(
        default=2**14, ge=1, le=2**22, description="Most frequent n-grams kept of each length."
    )
    min_documents: int = Field(
        default=5, ge=0, description="An n-gram in fewer training rows gets the weight 0."
    )


class ChiSquareParams(NgramParams):
    """Settings of the published 1-2-3-grams with chi-square selection."""

    selected: int = Field(default=2**14, ge=1, le=2**22, description="Features kept by the chi-square test.")


class NbNgramParams(Params):
    """Settings of the n-grams weighted by naive Bayes ratios."""

    min_documents: int = Field(default=2, ge=1, description="Training rows a term must occur in.")
    vocabulary_size: int = Field(
        default=2**20, ge=1, le=2**23, description="Most frequent word n-grams kept."
    )
    character_order: int = Field(
        default=5, ge=0, le=8, description="Length of the character n-grams; 0: none."
    )
    character_vocabulary_size: int = Field(
        default=2**19, ge=1, le=2**23, description="Most frequent character n-grams kept."
    )
    smoothing: float = Field(
        default=1.0, gt=0, le=100, allow_inf_nan=False, description="Added to each class count of a term."
    )
    ratio_floor: float = Field(
        default=1.0, ge=0, le=10, allow_inf_nan=False, description="Least weight of a term (log-count ratio)."
    )


@dataclass(frozen=True)
class Variant:
    """One way to make vectors of text.

    Attributes
    ----------
    name, title, description
        Name in asset keys, for people, and in one sentence.
    code_version
        Raised whenever the same rows would give other vectors.
    profile
        ``quick`` variants belong to every training; ``full`` ones to the whole table.
    defaults
        Parameters with their defaults; its class describes each.
    learn
        ``(training rows, parameters) -> PipelineModel`` from ``text`` to ``ml_features``.
    """

    name: str
    title: str
    description: str
    code_version: str
    profile: Profile
    defaults: Params
    learn: Callable[[DataFrame, Any], PipelineModel]

    def params(self, values: Mapping[str, object] | None = None) -> Params:
        """Parameters with ``values`` in place of the defaults.

        Raises
        ------
        TrainingError
            When a value is unknown, out of range or not a number.
        """
        return type(self.defaults).of(values or {})


@dataclass(frozen=True)
class FittedFeatures:
    """What a variant learned from training rows.

    Attributes
    ----------
    model
        From ``text`` to ``ml_features``.
    vocabulary_size
        Length of the vectors.
    mean_nonzero, sparsity
        Non-zero entries of a row on average and share of zero entries, both on at most 2,000 training rows.
    seconds
        Wall time of the fit.
    """

    variant: str
    model: PipelineModel
    rows: int
    vocabulary_size: int
    mean_nonzero: float
    sparsity: float
    seconds: float


def fit_features(variant: Variant, train: DataFrame, params: Params | None = None) -> FittedFeatures:
    """Fit ``variant`` on ``train``.

    Parameters
    ----------
    variant
        One of :data:`VARIANTS`.
    train
        Columns ``text STRING, label DOUBLE`` (0.0 or 1.0); it is read several times, so cache it.
    params
        Of the class of ``variant.defaults``; its defaults when left out.

    Raises
    ------
    TrainingError
        Fewer than 100 rows, a single label, or no term left to learn from.
    """
    rows = check_training_rows(train)
    start = time.monotonic()
    try:
        model = variant.learn(train.select(text.TEXT, LABEL), params or variant.defaults)
    except IllegalArgumentException as error:
        raise TrainingError(
            f"The features {variant.name} cannot be fitted on {rows:,} rows ({first_line(error)}).",
            "Check that the column text is not empty; lower the limits of the variant; or train on more rows.",
        ) from error
    seconds = time.monotonic() - start
    size, mean_nonzero = _density(vectors(model, train.select(text.TEXT, LABEL).limit(2_000)))
    if mean_nonzero == 0:
        raise _no_terms(variant.name, rows)
    return FittedFeatures(
        variant=variant.name,
        model=model,
        rows=rows,
        vocabulary_size=size,
        mean_nonzero=mean_nonzero,
        sparsity=1 - mean_nonzero / size,
        seconds=seconds,
    )


def check_training_rows(train: DataFrame) -> int:
    """Count the rows of ``train`` (column ``label``) and refuse what no classifier can learn from.

    Raises
    ------
    TrainingError
        Fewer than 100 rows, labels other than 0.0 and 1.0, or only one of the two.
    """
    row = train.agg(
        F.count("*").alias("rows"),
        F.count_if(F.col(LABEL) == 1.0).alias("positive"),
        F.count_if(F.col(LABEL) == 0.0).alias("negative"),
    ).first()
    assert row is not None  # noqa: S101  an aggregation without groups has one row
    rows, positive, negative = int(row["rows"]), int(row["positive"]), int(row["negative"])
    if rows < MINIMUM_ROWS:
        raise TrainingError(
            f"Only {rows} training rows are left, and at least {MINIMUM_ROWS} are needed.",
            "Train on more rows (--rows all), or look at the counts of cleaned_tweets for what was dropped.",
        )
    if positive + negative != rows:
        raise TrainingError(
            f"{rows - positive - negative:,} of {rows:,} training rows have a label other than 0.0 and 1.0.",
            "Map the labels to 0.0 (negative) and 1.0 (positive) and leave neutral rows out.",
        )
    if not positive or not negative:
        raise TrainingError(
            f"All {rows:,} training rows are {'positive' if positive else 'negative'}; a classifier needs both.",
            "The published file is sorted by label: take a random part of it, not its head.",
        )
    return rows


def _no_terms(variant: str, rows: int) -> TrainingError:
    return TrainingError(
        f"The features {variant} found no term in {rows:,} training rows.",
        "Check that the column text is not empty, or lower min_documents.",
    )


def _density(vectors: DataFrame) -> tuple[int, float]:
    """Length of the vectors and mean number of non-zero entries."""
    found = [row[0] for row in vectors.select(FEATURES).collect()]
    return int(found[0].size), float(sum(vector.numNonzeros() for vector in found)) / len(found)


def _hashing(train: DataFrame, params: HashingParams) -> PipelineModel:
    return Pipeline(
        stages=[
            text.published_text(),
            Tokenizer(inputCol=text.RAW, outputCol=text.TOKENS),
            HashingTF(numFeatures=params.buckets, inputCol=text.TOKENS, outputCol="ml_tf"),
            IDF(inputCol="ml_tf", outputCol=FEATURES, minDocFreq=params.min_documents),
        ]
    ).fit(train)


def _count(train: DataFrame, params: CountParams) -> PipelineModel:
    return Pipeline(
        stages=[
            text.published_text(),
            Tokenizer(inputCol=text.RAW, outputCol=text.TOKENS),
            CountVectorizer(vocabSize=params.vocabulary_size, inputCol=text.TOKENS, outputCol="ml_tf"),
            IDF(inputCol="ml_tf", outputCol=FEATURES, minDocFreq=params.min_documents),
        ]
    ).fit(train)


def _published_ngrams(params: NgramParams) -> list[Any]:
    """Stages up to the assembled counts ``ml_tf`` of 1-, 2- and 3-grams."""
    stages: list[Any] = [text.published_text(), Tokenizer(inputCol=text.RAW, outputCol=text.TOKENS)]
    for n in (1, 2, 3):
        stages += [
            NGram(n=n, inputCol=text.TOKENS, outputCol=f"ml_{n}grams"),
            CountVectorizer(vocabSize=params.vocabulary_size, inputCol=f"ml_{n}grams", outputCol=f"ml_tf{n}"),
        ]
    return [*stages, VectorAssembler(inputCols=["ml_tf1", "ml_tf2", "ml_tf3"], outputCol="ml_tf")]


def _ngrams(train: DataFrame, params: NgramParams) -> PipelineModel:
    idf = IDF(inputCol="ml_tf", outputCol=FEATURES, minDocFreq=params.min_documents)
    return Pipeline(stages=[*_published_ngrams(params), idf]).fit(train)


def _ngrams_chi2(train: DataFrame, params: ChiSquareParams) -> PipelineModel:
    """The published selection: chi-square over counts, IDF after it.

    The test takes each distinct value for a category, and IDF maps distinct counts of a term to distinct values, so
    selecting before IDF keeps the same terms. ``ChiSqSelector`` itself is deprecated.
    """
    selector = (
        UnivariateFeatureSelector(
            featuresCol="ml_tf", outputCol="ml_selected", labelCol=LABEL, selectionMode="numTopFeatures"
        )
        .setFeatureType("categorical")
        .setLabelType("categorical")
        .setSelectionThreshold(params.selected)
    )
    idf = IDF(inputCol="ml_selected", outputCol=FEATURES, minDocFreq=params.min_documents)
    return Pipeline(stages=[*_published_ngrams(params), selector, idf]).fit(train)


def _nb_ngrams(train: DataFrame, params: NbNgramParams) -> PipelineModel:
    """Word and character n-grams: binary x IDF with L2 norm 1 each, x naive Bayes log-count ratios.

    Wang & Manning (2012). The two views are normalised apart: in one vector the many character n-grams would
    drown the words.
    """
    front = [text.clean_tokens(), text.scoped_terms()]
    columns = {text.TERMS: params.vocabulary_size}
    if params.character_order:
        front.append(text.character_ngrams(params.character_order))
        columns[text.PIECES] = params.character_vocabulary_size
    stages: list[Any] = [*front]
    weights = []
    for column, vocabulary in _vocabularies(train, front, columns, params).items():
        if not len(vocabulary):
            raise _no_terms("nb_ngrams", vocabulary.rows)
        stages += _normalised(vocabulary, column, f"{column}_unit")
        weights.append(vocabulary.ratio_weights(smoothing=params.smoothing, floor=params.ratio_floor))
    units = [f"{column}_unit" for column in columns]
    return PipelineModel(
        stages=[
            *stages,
            VectorAssembler(inputCols=units, outputCol="ml_units"),
            ElementwiseProduct(
                inputCol="ml_units", outputCol=FEATURES, scalingVec=Vectors.dense(np.concatenate(weights))
            ),
        ]
    )


def _vocabularies(
    train: DataFrame, front: list[Any], limits: dict[str, int], params: NbNgramParams
) -> dict[str, Vocabulary]:
    """Vocabulary of each column of terms: by the compiled loops, or else, three times as slow, by Spark's SQL."""
    try:
        learned = learn_vocabularies(
            train,
            label=LABEL,
            order=params.character_order,
            min_documents=params.min_documents,
            limits=(params.vocabulary_size, params.character_vocabulary_size),
        )
        return dict(zip(limits, learned, strict=True))
    except FAILURES as error:
        log.warning("Terms are counted by Spark SQL: the compiled loops failed (%s).", last_line(error))
    rows = PipelineModel(stages=[*front]).transform(train)
    return {
        column: learn_vocabulary(
            rows, terms=column, label=LABEL, min_documents=params.min_documents, limit=limit
        )
        for column, limit in limits.items()
    }


def _normalised(vocabulary: Vocabulary, terms: str, output: str) -> list[Any]:
    """Stages from an array of terms to binary x IDF with L2 norm 1; no term at all stays the zero vector."""
    counts, weighted = f"{output}_tf", f"{output}_tfidf"
    idf = Vectors.dense(np.asarray(vocabulary.idf()))
    return [
        count_vectorizer(vocabulary.terms, terms, counts),
        ElementwiseProduct(inputCol=counts, outputCol=weighted, scalingVec=idf),
        Normalizer(inputCol=weighted, outputCol=output),
    ]


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant(
            name="nb_ngrams",
            title="Word and character n-grams, naive Bayes weights",
            description=(
                "Cleaned words with punctuation: 1-2-3-grams, negated words, last clause; character 5-grams beside"
                " them. Binary, IDF, L2 norm, log-count ratios."
            ),
            code_version="2",
            profile="quick",
            defaults=NbNgramParams(),
            learn=_nb_ngrams,
        ),
        Variant(
            name="hashing",
            title="Hashed words, TF-IDF",
            description="Published: words split at spaces, hashed into 2^16 buckets, IDF.",
            code_version="1",
            profile="quick",
            defaults=HashingParams(),
            learn=_hashing,
        ),
        Variant(
            name="count",
            title="Counted words, TF-IDF",
            description="Published: words split at spaces, the 2^16 most frequent, IDF.",
            code_version="1",
            profile="quick",
            defaults=CountParams(),
            learn=_count,
        ),
        Variant(
            name="hashing_default",
            title="Hashed words (2^18), TF-IDF",
            description="Published: words split at spaces, hashed into 2^18 buckets (MLlib's default), IDF.",
            code_version="1",
            profile="full",
            defaults=HashingDefaultParams(),
            learn=_hashing,
        ),
        Variant(
            name="count_default",
            title="Counted words (2^18), TF-IDF",
            description="Published: words split at spaces, the 2^18 most frequent (MLlib's default), IDF.",
            code_version="1",
            profile="full",
            defaults=CountDefaultParams(),
            learn=_count,
        ),
        Variant(
            name="ngrams",
            title="Word 1-2-3-grams, TF-IDF",
            description="Published: words split at spaces, the 2^14 most frequent of each length, IDF.",
            code_version="1",
            profile="full",
            defaults=NgramParams(),
            learn=_ngrams,
        ),
        Variant(
            name="ngrams_chi2",
            title="Word 1-2-3-grams, chi-square selection",
            description="Published best: as ngrams, of which a chi-square test keeps 2^14.",
            code_version="1",
            profile="full",
            defaults=ChiSquareParams(),
            learn=_ngrams_chi2,
        ),
        Variant(
            name="capped",
            title="The 2,048 most frequent words, TF-IDF",
            description="Words split at spaces; few enough features for trees.",
            code_version="1",
            profile="full",
            defaults=CappedParams(),
            learn=_count,
        ),
    )
}
"""Every feature variant by name."""
