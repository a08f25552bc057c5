"""A trained learner as a service runs it: answers to one user, and what they cost."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.films.data import MOST_RATINGS, Viewer, support_of
from experiments.films.judging import Answer
from jaxmeta import MetaLearner


def answers(learner: MetaLearner, theta: Any, num_films: int, column: int) -> Answer:
    """One column of z for all films, as a compiled program of the rated ones."""
    films = jnp.arange(num_films)[:, None]

    @jax.jit
    def run(support: Any) -> jax.Array:
        return learner.predict(theta, learner.adapt(theta, support), films)

    return lambda rated, ratings: np.asarray(run(support_of(rated, ratings)))[:, column]


def block(theta: Any, num_films: int, number: int = 0) -> Any:
    """theta with one block of its films: the first, of all training users, serves new users."""
    rows = slice(number * num_films, (number + 1) * num_films)
    return theta | {"films": jax.tree.map(lambda column: column[rows], theta["films"])}


def times(learner: MetaLearner, theta: Any, user: Viewer) -> dict[str, float]:
    """Median microseconds of compiled calls: adapt, extend by one rating, predict all films."""
    assert learner.extend is not None
    support = support_of(user.known, user.row[user.known])
    one = support_of(user.asked[:1], user.row[user.asked[:1]], size=1)
    films = jnp.arange(len(user.row))[:, None]
    adapt, extend, predict = map(jax.jit, (learner.adapt, learner.extend, learner.predict))
    theta = jax.tree.map(jnp.asarray, theta)
    w = adapt(theta, support)
    return {
        f"adapt_{MOST_RATINGS}_ratings_us": _median(lambda: adapt(theta, support)),
        "extend_one_rating_us": _median(lambda: extend(theta, w, one)),
        "predict_all_films_us": _median(lambda: predict(theta, w, films)),
    }


def _median(call: Callable[[], Any], repeats: int = 300) -> float:
    jax.block_until_ready(call())
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        taken.append(time.perf_counter() - start)
    return 1e6 * float(np.median(taken))
