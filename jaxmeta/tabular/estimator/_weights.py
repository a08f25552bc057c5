"""Weights of rows and of classes, for a meta-net that reads rows without weights."""

from typing import Any

import numpy as np
from sklearn.utils import check_consistent_length, compute_class_weight
from sklearn.utils.validation import _check_sample_weight

from jaxmeta.tabular._arrays import MOST_ROWS
from jaxmeta.tabular.estimator._model import TableModel
from jaxmeta.tabular.estimator._reduction import choose_rows

_MOST_COPIES = 1_000_000


def sample_rows(y: np.ndarray, weights: np.ndarray | None, seed: int) -> np.ndarray:
    """Indices of at most 256 rows, each as often as it weighs, no class left out.

    Args:
      y: classes `[N]`.
      weights: `[N]`, positive; None if all are equal. Whole numbers are copies. Others are shares
        of as many rows as there are: what weighs half of the mean is every other time left out.
      seed: of the sample, if there are too many.
    """
    if weights is None:
        return choose_rows(y, seed)
    if (weights == np.floor(weights)).all() and weights.sum() <= _MOST_COPIES:
        copies = np.repeat(np.arange(len(y)), weights.astype(int))
        return copies[choose_rows(y[copies], seed)]
    if (weights == weights[0]).all():
        return choose_rows(y, seed)
    # Along the rows of one class after the other, a copy each time that a whole weight is full.
    order = np.argsort(y, kind="stable")
    filled = np.cumsum(weights[order] / weights.sum()) * min(len(y), MOST_ROWS)
    rows = np.repeat(order, np.diff(np.floor(filled + 0.5), prepend=0.0).astype(int))
    lost = np.setdiff1d(y, y[rows])
    heaviest = [np.flatnonzero(y == c)[weights[y == c].argmax()] for c in lost]
    return np.sort(np.concatenate([heaviest, rows]).astype(int)[:MOST_ROWS])


def log_class_weights(
    class_weight: Any, classes: np.ndarray, y: np.ndarray, weights: np.ndarray | None
) -> np.ndarray:
    """Logarithms `[C]` of `class_weight`, as scikit-learn takes it, for classes `y [N]`."""
    each = compute_class_weight(class_weight, classes=classes, y=classes[y], sample_weight=weights)
    return np.log(np.maximum(each, 1e-30))


def shifts(log_weights: np.ndarray, y: np.ndarray, num_models: int) -> list[np.ndarray]:
    """What is added to the scores `[C]` of each model if its classes weigh otherwise, by Bayes.

    Args:
      log_weights: of the classes `[C]`.
      y: classes of the rows that were read `[S]`.
      num_models: one of all classes, or one for each against the rest, which weighs what its rows
        do.
    """
    if num_models == 1:
        return [log_weights - log_weights[0]]
    rest = [np.log(np.exp(log_weights[y[y != c]]).mean()) for c in range(num_models)]
    return [np.array([0.0, each]) for each in log_weights - np.array(rest)]


def shifted(model: TableModel, shift: np.ndarray) -> TableModel:
    """The model with so much added to its scores `[C]`."""
    complete = model.complete.copy()
    complete[: len(shift)] += shift
    return model._replace(complete=complete)


def rows_that_weigh(
    weights: np.ndarray | None, x: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Indices of the rows of a positive weight, and these weights; all for None.

    Raises:
      ValueError: for weights that are negative, not finite, or all zero.
    """
    check_consistent_length(x, labels)
    if weights is None:
        return np.arange(len(x)), None
    weights = np.asarray(_check_sample_weight(weights, x, ensure_non_negative=True), np.float64)
    rows = np.flatnonzero(weights)
    if not len(rows):
        raise ValueError("sample_weight is zero for all rows: one has to weigh something.")
    return rows, weights[rows]
