"""Bayes' baseline: a Gaussian prior over the vector of all ratings, its posterior in closed form.

    y_ui = mu_i + z_ui + noise,  z_u ~ N(0, Sigma),  noise ~ N(0, s^2)
    E[z_u | ratings of the films O] = Sigma[:, O] (Sigma[O, O] + s^2 I)^-1 (y_O - mu_O)

mu and Sigma are learned from the training users by expectation-maximisation, with an
inverse-Wishart prior around S0 = own I + common + alike G G^T, where G has the genres.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import get_lapack_funcs

SHRINKAGE = 3.0
"""Ratings that the mean of all is worth, in the mean of one film."""


class Setting(NamedTuple):
    """What validation chooses of a prior: `strength` in users, the parts of S0, and s^2."""

    strength: float = 100.0
    own: float = 0.1
    common: float = 0.12
    alike: float = 0.1
    noise: float = 0.5
    iterations: int = 12


class ItemPrior(NamedTuple):
    """`mean [M]`, `covariance [M, M]` and the variance of the noise."""

    mean: np.ndarray
    covariance: np.ndarray
    noise: float

    def weights(self, films: np.ndarray, ratings: np.ndarray) -> np.ndarray:
        """One weight for each rated film: the others' ratings are linear in these."""
        gram = self.covariance[np.ix_(films, films)] + self.noise * np.eye(len(films))
        return np.linalg.solve(gram, ratings - self.mean[films])

    def predict(self, films: np.ndarray, ratings: np.ndarray) -> np.ndarray:
        """What is expected of all films `[M]` after some ratings."""
        return self.mean + self.covariance[:, films] @ self.weights(films, ratings)


def item_means(matrix: np.ndarray, genres: np.ndarray | None = None) -> np.ndarray:
    """The mean rating of each film, shrunk towards that of all, or that of its genres."""
    seen = ~np.isnan(matrix)
    overall = np.full(matrix.shape[1], matrix[seen].mean())
    total = np.where(seen, np.nan_to_num(matrix) - overall, 0.0).sum(axis=0)
    if genres is not None:
        weight = seen.sum(axis=0)
        x = np.c_[np.ones(len(genres)), genres]
        system = x.T @ (weight[:, None] * x) + 50.0 * np.eye(x.shape[1])
        overall = overall + x @ np.linalg.solve(system, x.T @ total)
        total = np.where(seen, np.nan_to_num(matrix) - overall, 0.0).sum(axis=0)
    return (overall + total / (seen.sum(axis=0) + SHRINKAGE)).astype(np.float32)


def unit_genres(genres: np.ndarray) -> np.ndarray:
    """Genres of each film at length one; zeros for none."""
    return genres / np.sqrt(np.maximum(genres.sum(axis=1, keepdims=True), 1.0))


def fit(matrix: np.ndarray, genres: np.ndarray, setting: Setting, start=None) -> ItemPrior:
    """The prior of users with the ratings `matrix [U, M]`, by expectation-maximisation."""
    unit, num_users = unit_genres(genres), len(matrix)
    about = setting.own * np.eye(len(genres)) + setting.common + setting.alike * unit @ unit.T
    about = about.astype(np.float32)
    mean = item_means(matrix) if start is None else start
    covariance, films = about.copy(), [np.flatnonzero(row) for row in ~np.isnan(matrix)]
    count = np.maximum(~np.isnan(matrix), 0).sum(axis=0)
    for _ in range(setting.iterations):
        precision = np.zeros_like(covariance)
        weights = np.zeros(matrix.shape, np.float32)
        for user, held in enumerate(films):
            inverse = _inverse(covariance[held][:, held], setting.noise)
            weights[user, held] = inverse @ (matrix[user, held] - mean[held])
            precision[held[:, None], held] += inverse
        # The sum over users of the second moment of z given their ratings.
        z = weights @ covariance
        second = z.T @ z + num_users * covariance - covariance @ (precision @ covariance)
        mean = mean + setting.noise * weights.sum(axis=0) / (count + SHRINKAGE)
        covariance = (second + setting.strength * about) / (num_users + setting.strength)
        covariance = (0.5 * (covariance + covariance.T)).astype(np.float32)
    return ItemPrior(mean.astype(np.float32), covariance, setting.noise)


def _inverse(gram: np.ndarray, noise: float) -> np.ndarray:
    """(gram + noise I)^-1 by Cholesky."""
    gram[np.diag_indices(len(gram))] += noise
    factorise, invert = get_lapack_funcs(("potrf", "potri"), (gram,))
    lower, _ = invert(factorise(gram, lower=1)[0], lower=1)
    lower = np.tril(lower)
    return lower + np.tril(lower, -1).T
