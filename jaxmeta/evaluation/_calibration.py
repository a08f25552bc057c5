"""Probabilities: whether they mean what they say, and sets that hold the right class."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

_BINS = 15


class Reliability(NamedTuple):
    """How often rows of each of B bins are right, beside what their probabilities say.

    Attributes:
      confidence: mean probability of the likeliest class `[B]`, rising.
      accuracy: share of the rows whose class that is `[B]`.
      rows: rows of the bin `[B]`.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    rows: np.ndarray


def reliability(probabilities: ArrayLike, y: ArrayLike, *, num_bins: int = _BINS) -> Reliability:
    """The points of a reliability diagram: bins of equally many rows, by rising confidence.

    Args:
      probabilities: `[N, C]`.
      y: classes `[N]`.
      num_bins: bins B, of N rows at the least one each.

    Raises:
      ValueError: if the shapes do not fit, there is no row, or a class is none of the columns.

    References:
      Guo et al., On calibration of modern neural networks, arXiv:1706.04599.
    """
    probabilities, y = _checked(probabilities, y, "reliability")
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == y
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, min(num_bins, len(order)))
    return Reliability(
        np.array([confidence[rows].mean() for rows in bins]),
        np.array([right[rows].mean() for rows in bins]),
        np.array([len(rows) for rows in bins]),
    )


def calibration_error(
    probabilities: ArrayLike, y: ArrayLike, *, debiased: bool = False, num_bins: int = _BINS
) -> float:
    """How far the probability of the likeliest class is from how often it is right.

        sum_b n_b / N |accuracy_b - confidence_b|

    over bins b of equally many rows, by rising confidence.

    Args:
      probabilities: `[N, C]`.
      y: classes `[N]`.
      debiased: less what rows drawn by the probabilities themselves would show in such bins, with
        the errors of a bin as normal; never below zero.
      num_bins: bins, of N rows at the least one each.

    Returns:
      The expected calibration error, in 0..1.

    Raises:
      ValueError: if the shapes do not fit, there is no row, or a class is none of the columns.

    References:
      Naeini et al. (2015), Obtaining well calibrated probabilities using Bayesian binning; Kumar et
      al., Verified uncertainty calibration, arXiv:1909.10155.
    """
    total = 0.0
    bins = reliability(*_checked(probabilities, y, "calibration_error"), num_bins=num_bins)
    for confidence, accuracy, rows in zip(*bins, strict=True):
        gap = expected = abs(accuracy - confidence)
        std = math.sqrt(accuracy * (1 - accuracy) / rows)
        if debiased and std:
            expected = stats.foldnorm.mean(gap / std, scale=std)
        total += rows / bins.rows.sum() * (2 * gap - expected)
    return max(float(total), 0.0)


def log_loss(probabilities: ArrayLike, y: ArrayLike) -> float:
    """Mean of -log of the right class's probability, in nats, of `[N, C]` and classes `y [N]`.

    Infinite where a probability of the right class is exactly zero.

    Raises:
      ValueError: if the shapes do not fit, there is no row, or a class is none of the columns.
    """
    probabilities, y = _checked(probabilities, y, "log_loss")
    with np.errstate(divide="ignore"):
        return float(-np.log(probabilities[np.arange(len(y)), y]).mean())


def brier_score(probabilities: ArrayLike, y: ArrayLike) -> float:
    """Mean squared distance of the probabilities `[N, C]` from the classes `y [N]`, in 0..2.

    Raises:
      ValueError: if the shapes do not fit, there is no row, or a class is none of the columns.

    References:
      Brier (1950), Verification of forecasts expressed in terms of probability.
    """
    probabilities, y = _checked(probabilities, y, "brier_score")
    exact = y[:, None] == np.arange(probabilities.shape[1])
    return float(np.square(probabilities - exact).sum(axis=1).mean())


def conformal_threshold(scores: ArrayLike, level: float, tasks: ArrayLike | None = None) -> float:
    """The score that one more, of a new task, stays below with the probability `level`.

    The ceil((N + 1) level)-th smallest of N scores of exchangeable tasks, one of each. With several
    scores a task, each counts for its share of the task.

    Args:
      scores: of rows of the calibration tasks `[R]`: one less the probability of the right class,
        or |y - z| / sigma.
      level: the probability.
      tasks: of which of N tasks each score is `[R]`; by default each is of its own.

    Returns:
      The threshold; infinite if N is too small for the level.

    Raises:
      ValueError: for a level outside of 0..1, a score that is NaN, or shapes that do not fit.

    Example:
      >>> conformal_threshold([0.1, 0.4, 0.2], 0.75)
      0.4

    References:
      Dunn, Wasserman and Ramdas, Distribution-free prediction sets for two-layer hierarchical
      models, arXiv:1809.07441; Lee, Barber and Willett, Distribution-free inference with
      hierarchical data, arXiv:2306.06342, for several rows a task.
    """
    scores = np.asarray(scores, np.float64)
    tasks = np.arange(len(scores)) if tasks is None else np.asarray(tasks)
    if scores.ndim != 1 or tasks.shape != scores.shape:
        raise ValueError(
            "conformal_threshold reads scores [R] and the task of each [R], got "
            f"{scores.shape} and {tasks.shape}."
        )
    if not 0 < level < 1:
        raise ValueError(f"A level is between 0 and 1, got {level}.")
    if np.isnan(scores).any():
        raise ValueError("conformal_threshold got a score that is NaN.")
    names, codes, counts = np.unique(tasks, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    # Of so many tasks, and the new one, a score that large or larger is the share.
    below = np.cumsum(1.0 / counts[codes[order]])
    # A level such as 0.9 is a little more than nine tenths in floating point.
    reached = below >= (len(names) + 1) * level - 1e-9
    return float(scores[order[reached.argmax()]]) if reached.any() else math.inf


def prediction_set(probabilities: ArrayLike, threshold: float) -> np.ndarray:
    """Which classes cannot be excluded, bool `[N, C]`: those with `1 - p <= threshold`."""
    return 1.0 - np.asarray(probabilities, np.float64) <= threshold


def _checked(probabilities: ArrayLike, y: ArrayLike, name: str) -> tuple[np.ndarray, np.ndarray]:
    probabilities, y = np.asarray(probabilities, np.float64), np.asarray(y)
    if probabilities.ndim != 2 or y.shape != probabilities.shape[:1] or not len(y):
        raise ValueError(
            f"{name} reads probabilities [N, C] and classes [N] of one row or more, got "
            f"{probabilities.shape} and {y.shape}."
        )
    codes, count = y.astype(np.intp), probabilities.shape[1]
    if (codes != y).any() or (codes < 0).any() or (codes >= count).any():
        raise ValueError(f"{name} reads classes in 0..{count - 1}, got {y.min()} to {y.max()}.")
    return probabilities, codes
