"""Evaluation on unseen tasks: what a number is worth, and how two learners differ."""

from jaxmeta.evaluation._calibration import (
    brier_score,
    calibration_error,
    conformal_threshold,
    prediction_set,
)
from jaxmeta.evaluation._conformal import conformal
from jaxmeta.evaluation._evaluate import evaluate
from jaxmeta.evaluation._finite_sample import betting_interval, occam_bound, tolerance_limit
from jaxmeta.evaluation._intervals import Evaluation, interval95, paired_difference
from jaxmeta.evaluation._over_classes import interval_over_classes, interval_over_groups

__all__ = [
    "Evaluation",
    "betting_interval",
    "brier_score",
    "calibration_error",
    "conformal",
    "conformal_threshold",
    "evaluate",
    "interval95",
    "interval_over_classes",
    "interval_over_groups",
    "occam_bound",
    "paired_difference",
    "prediction_set",
    "tolerance_limit",
]


def __dir__() -> list[str]:
    return __all__
