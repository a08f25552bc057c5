"""What holds for any distribution and any number of tasks: an interval, a limit, an error."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

_MOST_OF_A_BET = 0.5  # of the capital that a bet may lose


def betting_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """An interval of the mean of numbers in 0..1 that covers it at the level, for any number.

    Somebody bets against each candidate m for the mean, half of the money on more and half on less.
    If m is the mean, no bet gains in expectation, so the capital reaches 1 / (1 - level) with
    probability 1 - level at most. What is left is what never made anybody that rich.

    Args:
      values: of the tasks `[T]`, in 0..1, in an order that does not depend on them.
      level: the probability that the interval covers the mean.

    Returns:
      Its ends.

    Raises:
      ValueError: for numbers outside of 0..1, no number, or a level outside of 0..1.

    References:
      Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting,
      arXiv:2010.09686; bets by their predictable plug-in for a fixed number of values.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values) or not ((values >= 0) & (values <= 1)).all():
        raise ValueError("betting_interval reads numbers in 0..1, of one task or more, [T].")
    if not 0 < level < 1:
        raise ValueError(f"The level of an interval is between 0 and 1, got {level}.")
    count = np.arange(1, len(values) + 1)
    means = (0.5 + np.cumsum(values)) / (count + 1)
    variances = (0.25 + np.cumsum((values - means) ** 2)) / (count + 1)
    # A bet knows what came before it.
    before = np.concatenate([[0.25], variances[:-1]])
    bets = np.sqrt(2 * math.log(2 / (1 - level)) / (len(values) * before))
    rich = math.log(1 / (1 - level))

    def is_out(m: float) -> bool:
        more = np.minimum(bets, _MOST_OF_A_BET / m if m > 0 else np.inf)
        less = np.minimum(bets, _MOST_OF_A_BET / (1 - m) if m < 1 else np.inf)
        gains = np.cumsum(np.log1p(more * (values - m))), np.cumsum(np.log1p(less * (m - values)))
        return bool(max(gain.max() for gain in gains) + math.log(0.5) >= rich)

    inside = _a_point_inside(is_out, float(means[-1]))
    return _end(is_out, inside, 0.0), _end(is_out, inside, 1.0)


def _a_point_inside(is_out: Callable[[float], bool], guess: float) -> float:
    for m in sorted(np.linspace(0, 1, 1001), key=lambda m: abs(m - guess)):
        if not is_out(float(m)):
            return float(m)
    return guess


def _end(is_out: Callable[[float], bool], inside: float, end: float) -> float:
    """Between a point that is in and an end, where it stops to be so; by bisection."""
    if not is_out(end):
        return end
    outside = end
    for _ in range(50):
        middle = 0.5 * (inside + outside)
        inside, outside = (inside, middle) if is_out(middle) else (middle, outside)
    return outside


def tolerance_limit(values: ArrayLike, share: float = 0.95, confidence: float = 0.95) -> float:
    """A number that so large a share of new tasks reaches, with that confidence.

    The k-th smallest of N values, with the largest k for which P(Bin(N, 1 - share) < k) is at most
    1 - confidence; for any distribution.

    Args:
      values: of the tasks `[N]`.
      share: of new tasks.
      confidence: that the limit is low enough.

    Returns:
      The limit; minus infinity if the tasks are too few for any.

    Raises:
      ValueError: for a share or confidence outside of 0..1.

    Example:
      >>> tolerance_limit([0.8, 0.9, 1.0], share=0.3, confidence=0.9)
      0.8

    References:
      Wilks (1941), Determination of sample sizes for setting tolerance limits.
    """
    values = np.sort(np.asarray(values, np.float64))
    if not (0 < share < 1 and 0 < confidence < 1):
        raise ValueError(f"share and confidence are in 0..1, got {share} and {confidence}.")
    below = stats.binom.cdf(np.arange(len(values)), len(values), 1 - share)
    k = int(np.sum(below <= 1 - confidence))
    return float(values[k - 1]) if k else -math.inf


def occam_bound(error: float, bits: float, num_rows: int, confidence: float = 0.95) -> float:
    """The most that the error on new rows is, of a model that so many bits describe.

        kl(error || bound) = (bits ln 2 + ln(2 sqrt(n) / (1 - confidence))) / n

    It holds at the confidence for every model that the code can write down, chosen by whatever
    means from n independent rows, if the code was fixed before (`sparsity.description_bits`).

    Args:
      error: share of the n rows that the model is wrong on.
      bits: that describe it.
      num_rows: rows n.
      confidence: that the bound holds.

    Returns:
      The bound; one says nothing.

    Raises:
      ValueError: for an error or confidence outside of 0..1, or no rows.

    Example:
      >>> round(occam_bound(0.15, 200.0, 1000), 2)
      0.4

    References:
      Langford (2005), Tutorial on practical prediction theory for classification; the form in kl
      is of Maurer (2004), arXiv:cs/0411099.
    """
    if not (0 <= error <= 1 and 0 < confidence < 1 and num_rows > 0):
        raise ValueError(
            f"occam_bound reads an error and a confidence in 0..1 and rows, got {error}, "
            f"{confidence} and {num_rows}."
        )
    code = bits * math.log(2) + math.log(2 * math.sqrt(num_rows) / (1 - confidence))
    low, high = error, 1.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        kl = special.rel_entr(error, middle) + special.rel_entr(1 - error, 1 - middle)
        low, high = (low, middle) if kl > code / num_rows else (middle, high)
    return high
