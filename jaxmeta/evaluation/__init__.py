"""Evaluation on unseen tasks: what a number is worth, and how two learners differ."""

from jaxmeta.evaluation._calibration import (
    Reliability,
    brier_score,
    calibration_error,
    conformal_threshold,
    log_loss,
    prediction_set,
    reliability,
)
from jaxmeta.evaluation._conformal import conformal, prediction_interval
from jaxmeta.evaluation._evaluate import evaluate
from jaxmeta.evaluation._finite_sample import betting_interval, occam_bound, tolerance_limit
from jaxmeta.evaluation._intervals import Evaluation, interval95, paired_difference
from jaxmeta.evaluation._over_classes import interval_over_classes, interval_over_groups
from jaxmeta.evaluation._predictions import Predictions
from jaxmeta.evaluation._temperature import fit_temperature

__all__ = [
    "Evaluation",
    "Predictions",
    "Reliability",
    "betting_interval",
    "brier_score",
    "calibration_error",
    "conformal",
    "conformal_threshold",
    "evaluate",
    "fit_temperature",
    "interval95",
    "interval_over_classes",
    "interval_over_groups",
    "log_loss",
    "occam_bound",
    "paired_difference",
    "prediction_interval",
    "prediction_set",
    "reliability",
    "tolerance_limit",
]


def __dir__() -> list[str]:
    return __all__
