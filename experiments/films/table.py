"""What is known of each film before a user comes: a table, and blocks of it for cross-fitting.

Block 0 is of all training users and serves new ones. Each further block is of four fifths of
them, for the last fifth: the learner is trained on users whose ratings are not in what it reads,
as those of new users will not be.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse.linalg import svds

from experiments.films.prior import ItemPrior, Setting, fit, unit_genres
from experiments.films.rivals import ease_weights

FOLDS = 5


class Films(NamedTuple):
    """The table, a row for each film (of each block).

    Attributes:
      mean: of the prior `[M]`.
      factors: a square root of the prior's covariance, cut to F columns `[M, F]`.
      rest: the variance that was cut off, and that of the noise, `[M]`.
      count: logarithm of one and the number of ratings `[M]`.
      genres: at length one `[M, G]`.
      giving, taking: factors of EASE, with `giving @ taking.T` its weights, `[M, E]` both.
    """

    mean: np.ndarray
    factors: np.ndarray
    rest: np.ndarray
    count: np.ndarray
    genres: np.ndarray
    giving: np.ndarray
    taking: np.ndarray


def describe(
    matrix: np.ndarray, genres: np.ndarray, prior: ItemPrior, *, size: int, regulariser: float
) -> Films:
    """The table of the films that some users rated.

    Args:
      matrix: ratings `[U, M]`.
      genres: `[M, G]`.
      prior: of the same ratings.
      size: columns F of the factors, and E of those of EASE.
      regulariser: of EASE.
    """
    left, scale, _ = _largest(prior.covariance, size)
    factors = left * np.sqrt(scale)
    rest = np.maximum(np.diag(prior.covariance) - np.square(factors).sum(axis=1), 0.0)
    left, scale, right = _largest(ease_weights(matrix, regulariser), size)
    columns = (
        prior.mean,
        factors,
        rest + prior.noise,
        np.log1p((~np.isnan(matrix)).sum(axis=0)),
        unit_genres(genres),
        left * np.sqrt(scale),
        right.T * np.sqrt(scale),
    )
    return Films(*(column.astype(np.float32) for column in columns))


def _largest(square: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The largest singular values `[size]` with their vectors, `[M, size]` and `[size, M]`."""
    square = square.astype(np.float64)
    if 2 * size < len(square):
        return svds(square, size, v0=np.ones(len(square)))  # Lanczos: in a tenth of the time
    left, scale, right = np.linalg.svd(square)
    return left[:, :size], scale[:size], right[:size]


def crossed(
    matrix: np.ndarray,
    genres: np.ndarray,
    setting: Setting,
    whole: ItemPrior,
    *,
    size: int,
    regulariser: float,
) -> tuple[Films, np.ndarray]:
    """The table of all blocks, one after the other, and the block of each training user."""
    fold = np.arange(len(matrix)) % FOLDS
    tables = [describe(matrix, genres, whole, size=size, regulariser=regulariser)]
    for each in range(FOLDS):
        rest = matrix[fold != each]
        prior = fit(rest, genres, setting)
        tables.append(describe(rest, genres, prior, size=size, regulariser=regulariser))
    return Films(*(np.concatenate(columns) for columns in zip(*tables, strict=True))), 1 + fold
