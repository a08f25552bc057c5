"""Evaluation on unseen tasks: what a number is worth, and how two learners differ."""

from jaxmeta.evaluation._evaluate import evaluate
from jaxmeta.evaluation._intervals import Evaluation, interval95, paired_difference

__all__ = ["Evaluation", "evaluate", "interval95", "paired_difference"]


def __dir__() -> list[str]:
    return __all__
