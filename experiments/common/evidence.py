"""Judging and comparing: intervals over tasks and over classes, and the area under a curve."""

from typing import Any

import numpy as np

from jaxmeta import Evaluation, MetaLearner, evaluate, paired_difference
from jaxmeta.types import Sampler


def judged(learner: MetaLearner, theta: Any, sampler: Sampler, **options: Any) -> Evaluation:
    """As `evaluate`, with the interval for new classes where there are enough of them to tell."""
    try:
        return evaluate(learner, theta, sampler, over="classes", **options)
    except ValueError:  # or what is wrong is said again
        return evaluate(learner, theta, sampler, **options)


def paired(ours: Evaluation, theirs: Evaluation) -> dict[str, float]:
    """The mean difference and its interval over tasks; over classes too, if ours has one."""
    mean, ci95 = paired_difference(ours, theirs)
    found = {"mean": mean, "ci95": ci95}
    if ours.over == "classes":
        found["ci95_classes"] = paired_difference(ours, theirs, over="classes")[1]
    return found


def auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a positive row scores above a negative one, ties counting half."""
    values, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2
    num = positive.sum()
    wins = rank[inverse][positive].sum() - num * (num + 1) / 2
    return float(wins / (num * (len(score) - num)))
