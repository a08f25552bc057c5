"""Sparse `w`: the few rated films that say most of a user, by the closed form's weights."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.films.data import GENRES, Viewer
from experiments.films.judging import Method, difference, mean_and_interval, measure
from experiments.films.prior import ItemPrior
from jaxmeta import sparsity

KEPT = (1, 3, 5, 10, 20)


def kept(prior: ItemPrior, films: np.ndarray, ratings: np.ndarray, most: int) -> np.ndarray:
    """The weights of the most telling films, solved anew for these; of the others exact zeros."""
    worth = prior.weights(films, ratings) * np.sqrt(np.diag(prior.covariance)[films])
    left = np.asarray(sparsity.hard_threshold(most=most)(jnp.asarray(worth), 0.0)) != 0.0
    weights = np.zeros(len(films))
    weights[left] = prior.weights(films[left], ratings[left])
    return weights


def judge(prior: ItemPrior, users: Sequence[Viewer]) -> list[dict[str, Any]]:
    """RMSE with so many films left in `w`, of all that are known; against all of them."""

    def left(most: int) -> Method:
        def rate(films: np.ndarray, ratings: np.ndarray) -> np.ndarray:
            return prior.mean + prior.covariance[:, films] @ kept(prior, films, ratings, most)

        return Method("", rate, None)

    rmse = {most: measure(left(most), users, KEPT[-1]).rmse for most in KEPT}
    rows = []
    for most, values in rmse.items():
        mean, ci95 = mean_and_interval(values)
        against = difference(values, rmse[KEPT[-1]])
        rows.append({"films": most, "rmse": mean, "ci95": ci95, "against_all": against})
    return rows


def examples(
    prior: ItemPrior, genres: np.ndarray, users: Sequence[Viewer], most: int = 4
) -> list[list[dict[str, Any]]]:
    """The films that matter of some users: number in the data (from 1), genres, rating, weight."""
    found = []
    for user in users:
        weights = kept(prior, user.known, user.row[user.known], most)
        found.append(
            [
                {
                    "film": int(user.known[at]) + 1,
                    "genres": [GENRES[each] for each in np.flatnonzero(genres[user.known[at]])],
                    "rating": float(user.row[user.known[at]]),
                    "expected": float(prior.mean[user.known[at]]),
                    "weight": float(weights[at]),
                }
                for at in np.argsort(-np.abs(weights))[:most]
            ]
        )
    return found
