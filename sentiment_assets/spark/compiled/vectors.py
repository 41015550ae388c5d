"""The vectors of training rows, made by compiled loops instead of MLlib's stages: the same numbers.

A fitted pipeline of the variant ``nb_ngrams`` goes in, a frame of vectors comes out: 39,000 instead of 6,800 rows/s on
two cores. Whether they are the same is tried on the first rows each time; where they are not, or the pipeline is
another one, MLlib's own stages do the work.
Does not belong here: the loops (``terms``), scores (``model``).
"""

import logging
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from pyspark.ml import PipelineModel
from pyspark.ml.feature import CountVectorizerModel, ElementwiseProduct, SQLTransformer, VectorAssembler
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from sentiment_assets.failures import last_line
from sentiment_assets.spark import text
from sentiment_assets.spark.compiled.counting import FAILURES
from sentiment_assets.spark.compiled.export import (
    NotCompilableError,
    character_classes,
    check_text_rules,
    read_ratios,
    read_view,
    term_columns,
    view_hashes,
)
from sentiment_assets.spark.compiled.learner import FeatureTables, batch_vectors
from sentiment_assets.spark.compiled.worker import use_cache
from sentiment_assets.spark.session import KERNEL_CACHE
from sentiment_assets.spark.text import FEATURES, LABEL
from sentiment_assets.spark.vocabulary import count_vectorizer, vocabulary_of

if TYPE_CHECKING:
    from pyspark.core.broadcast import Broadcast

log = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]

_TRIED_ROWS = 200
_TOLERANCE = 1e-12
_SCHEMA = T.StructType([T.StructField(LABEL, T.DoubleType()), T.StructField(FEATURES, VectorUDT())])


def feature_tables(features: PipelineModel) -> FeatureTables:
    """Read a fitted pipeline from ``text`` to ``ml_features``.

    Raises
    ------
    NotCompilableError
        When it is not of the variant ``nb_ngrams`` with the current text rules.
    """
    stages: list[Any] = list(features.stages)
    order = check_text_rules([stage for stage in stages if isinstance(stage, SQLTransformer)])
    columns = term_columns(order)
    hashes, idf = [], []
    for column in columns:
        view = read_view(stages, column)
        found = view_hashes(view)
        if len(np.unique(found)) != len(found):
            raise NotCompilableError("two of its terms have the same hash")
        hashes.append(found)
        idf.append(view.idf)
    if not order:
        hashes.append(np.empty(0, np.uint64))
        idf.append(np.empty(0))
    ratio = read_ratios(stages, [f"{column}_unit" for column in columns])
    if len(ratio) != len(hashes[0]) + len(hashes[1]):
        raise NotCompilableError("its features are not those of its vocabularies")
    return FeatureTables(
        classes=character_classes(SparkSession.active()),
        order=order,
        word_hashes=hashes[0],
        word_idf=idf[0],
        piece_hashes=hashes[1],
        piece_idf=idf[1],
        ratio=ratio,
        name=uuid.uuid4().hex,
    )


def vectors(features: PipelineModel, rows: DataFrame) -> DataFrame:
    """Columns ``label DOUBLE`` and ``ml_features`` of training rows.

    Parameters
    ----------
    features
        A fitted pipeline from ``text`` to ``ml_features``. The first rows asked of it decide who makes its vectors.
    rows
        Columns ``text STRING, label DOUBLE``.
    """
    if features not in _agreed:
        _agreed[features] = _tables_that_agree(features, rows)
    shared = _agreed[features]
    if shared is None:
        return features.transform(rows).select(LABEL, FEATURES)
    return _compiled(shared, rows)


def made_by(features: PipelineModel) -> str:
    """Who makes the vectors of a pipeline that :func:`vectors` was asked for: compiled loops, or MLlib's stages."""
    return "MLlib's stages" if _agreed[features] is None else "compiled loops"


_agreed: "WeakKeyDictionary[PipelineModel, Broadcast[FeatureTables] | None]" = WeakKeyDictionary()


def _tables_that_agree(features: PipelineModel, rows: DataFrame) -> "Broadcast[FeatureTables] | None":
    """Tables with which the loops make MLlib's vectors of the first rows; None when there are none."""
    use_cache(str(rows.sparkSession.conf.get(KERNEL_CACHE)))
    try:
        shared = rows.sparkSession.sparkContext.broadcast(feature_tables(features))
        front: list[Any] = [stage for stage in features.stages if isinstance(stage, SQLTransformer)]
        tried = PipelineModel(front).transform(rows.limit(_TRIED_ROWS)).localCheckpoint()
        behind, numbers = _of_these_rows(list(features.stages)[len(front) :], tried)
        expected = behind.transform(tried).select(FEATURES).collect()
        found = _compiled(shared, tried.select(text.TEXT, LABEL)).select(FEATURES).collect()
        same = all(_same(ours[0], theirs[0], numbers) for ours, theirs in zip(found, expected, strict=True))
    except NotCompilableError as error:
        log.debug("The vectors are made by MLlib: %s.", error)
        return None
    except FAILURES as error:
        log.warning("The vectors are made by MLlib: the compiled loops failed (%s).", last_line(error))
        return None
    if not same:
        log.warning("The vectors are made by MLlib: those of the compiled loops differ.")
        return None
    return shared


def _of_these_rows(stages: list[Any], rows: DataFrame) -> tuple[PipelineModel, npt.NDArray[np.int64]]:
    """The stages behind the terms, with those terms alone that occur in ``rows``; and which features these are.

    Terms that occur in no row have no part in a vector, but MLlib sends whole vocabularies to its tasks: 9 instead
    of 4 s for 540,000 terms.
    """
    sizes: dict[str, int] = {}
    kept: dict[str, npt.NDArray[np.int64]] = {}
    reduced: list[Any] = []
    for stage in stages:
        output = stage.getOutputCol()
        if isinstance(stage, CountVectorizerModel):
            terms, column = vocabulary_of(stage), stage.getInputCol()
            seen = {term for row in rows.select(column).collect() for term in row[0]}
            # MLlib refuses a vocabulary without any term.
            places = [place for place, term in enumerate(terms) if term in seen] or [0]
            sizes[output], kept[output] = len(terms), np.array(places)
            reduced.append(count_vectorizer([terms[place] for place in places], column, output))
        elif isinstance(stage, VectorAssembler):
            begins = np.cumsum([0, *(sizes[column] for column in stage.getInputCols())])
            kept[output] = np.concatenate(
                [kept[column] + begin for column, begin in zip(stage.getInputCols(), begins, strict=False)]
            )
            reduced.append(stage)
        else:
            sizes[output], kept[output] = sizes.get(stage.getInputCol(), 0), kept[stage.getInputCol()]
            reduced.append(
                stage.copy().setScalingVec(Vectors.dense(stage.getScalingVec().toArray()[kept[output]]))
                if isinstance(stage, ElementwiseProduct)
                else stage
            )
    return PipelineModel(reduced), kept[FEATURES]


def _same(ours: Any, theirs: Any, numbers: npt.NDArray[np.int64]) -> bool:
    """Compare a vector with one of the features ``numbers``, which may be dense: they are few."""
    found, expected = ours.toArray(), theirs.toArray()
    places = np.flatnonzero(expected)
    return np.array_equal(np.flatnonzero(found), numbers[places]) and np.allclose(
        found[numbers[places]], expected[places], rtol=_TOLERANCE, atol=0
    )


def _compiled(shared: "Broadcast[FeatureTables]", rows: DataFrame) -> DataFrame:
    folder, names = str(rows.sparkSession.conf.get(KERNEL_CACHE)), _SCHEMA.names

    def make(batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            yield batch_vectors(batch, shared.value, folder, names)

    lowered = rows.selectExpr(LABEL, *text.lowered(ascii_first=True)).select(LABEL, text.LOWER)
    return lowered.mapInArrow(make, _SCHEMA)
