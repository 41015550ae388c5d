"""Linear classifiers seen as what they are: one weight per feature and an intercept.

Belongs here: reading them out of fitted stages. Does not belong here: what the features are (``features``), what is
done with the weights (``explain``, ``compiled``).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pyspark.ml import PipelineModel
from pyspark.ml.classification import LinearSVCModel, LogisticRegressionModel, NaiveBayesModel

from sentiment_assets.spark.text import FEATURES


@dataclass(frozen=True)
class Linear:
    """Log-odds of positive = intercept + weights . features."""

    weights: npt.NDArray[np.float64]
    intercept: float


def linear_part(model: PipelineModel) -> Linear | None:
    """The log-odds as a linear function of ``ml_features``; None when they are not."""
    scale, offset = 1.0, 0.0
    for stage in reversed(model.stages):
        if isinstance(stage, LogisticRegressionModel):
            if stage.getFeaturesCol() == FEATURES:
                return Linear(stage.coefficients.toArray(), stage.intercept)
            # Platt's sigmoid sees the two mirrored margins (-m, m) of the machine before it.
            below, above = stage.coefficients.toArray()
            scale, offset = float(above - below), stage.intercept
        elif isinstance(stage, LinearSVCModel):
            return Linear(scale * stage.coefficients.toArray(), scale * stage.intercept + offset)
        elif isinstance(stage, NaiveBayesModel):
            negative, positive = stage.theta.toArray()
            prior = stage.pi.toArray()
            return Linear(positive - negative, float(prior[1] - prior[0]))
    return None
