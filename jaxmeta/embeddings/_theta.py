"""What is kept of past classes, and how far sets and strangers go by it. NumPy alone."""

from typing import NamedTuple

import numpy as np

from jaxmeta.embeddings._formula import HeadTheta

LEVELS = np.round(np.arange(0.5, 0.995, 0.01), 2)
"""Levels for which thresholds are kept; others are interpolated."""


class Calibration(NamedTuple):
    """Thresholds from held-out classes, by shots and by level.

    Attributes:
      log_shots: logarithm of one more than the shots, rising `[B]`.
      mass: how much probability a set has to hold `[B, L]`; infinite for too few classes.
      strangeness: which score so many rows of known classes stay below `[B, L]`, likewise.
    """

    log_shots: np.ndarray
    mass: np.ndarray
    strangeness: np.ndarray


class Theta(NamedTuple):
    """All that is learned from past classes.

    Attributes:
      head: scalars, which serve features of any number.
      calibration: thresholds.
      names: from vectors of names to the space of the rows `[E, D]`; None where they share it.
    """

    head: HeadTheta
    calibration: Calibration
    names: np.ndarray | None


_NEVER = 1e30  # in the place of infinity, which cannot be interpolated


def threshold(table: np.ndarray, calibration: Calibration, shots: float, level: float) -> float:
    """The entry of a table at so many rows a class and that level."""
    table = np.minimum(table, _NEVER)
    of_level = [float(np.interp(level, LEVELS, row)) for row in table]
    found = float(np.interp(np.log1p(shots), calibration.log_shots, of_level))
    return found if found < 1e-6 * _NEVER else np.inf


def mass_before(z: np.ndarray) -> np.ndarray:
    """The probability of all classes that are likelier than each, `[N, C]`, of logits."""
    p = softmax(z)
    order = np.argsort(-p, axis=1, kind="stable")
    ranked = np.take_along_axis(p, order, axis=1)
    before = np.cumsum(ranked, axis=1) - ranked
    return np.take_along_axis(before, np.argsort(order, axis=1, kind="stable"), axis=1)


def softmax(z: np.ndarray) -> np.ndarray:
    """Probabilities `[N, C]` of logits, in double precision."""
    p = np.exp(z - z.max(axis=1, keepdims=True), dtype=np.float64)
    return p / p.sum(axis=1, keepdims=True)


def strangeness(z: np.ndarray) -> np.ndarray:
    """How little a row resembles any class `[N]`: the least logit that none of them reaches."""
    return -np.asarray(z, np.float64).max(axis=1)
