"""Ratings of films at toy size, and what is learned from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.films import (
    learner,
    prior,
    table,
)
from experiments.films.data import load, split, support_of
from jaxmeta import Task

NUM_USERS, NUM_FILMS = 60, 50
SETTING = prior.Setting(strength=10.0, iterations=3)
SMALL = (SETTING, SETTING._replace(noise=0.7))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sixty users of fifty films, who rate about three in five of them by two tastes."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    liking = rng.normal(size=(NUM_USERS, 2)) @ rng.normal(size=(2, NUM_FILMS))
    rating = np.clip(np.round(3.4 + 0.8 * liking + 0.4 * rng.normal(size=liking.shape)), 1, 5)
    user, item = np.nonzero(rng.random(rating.shape) < 0.6)
    arrays = {"user": user, "item": item, "rating": rating[user, item].astype(np.int8)}
    (root / "movielens").mkdir()
    genres = (rng.random((NUM_FILMS, 19)) < 0.15).astype(np.int8)
    np.savez(root / "movielens" / "ml100k.npz", item_genres=genres, **arrays)
    return root


@pytest.fixture(scope="module")
def ratings(folder):
    return load(str(folder))


@pytest.fixture(scope="module")
def known(ratings):
    """The prior of the training users, and the table of one block."""
    matrix = ratings.of(split(NUM_USERS, 0)["train"])
    found = prior.fit(matrix, ratings.genres, SETTING)
    films = table.describe(matrix, ratings.genres, found, size=NUM_FILMS, regulariser=20.0)
    return found, films


@pytest.fixture(scope="module")
def trained(known):
    """The learner with a network that says something, and its theta."""
    model = learner.taste(known[1], 8)
    rows = support_of(np.arange(3), np.ones(3))
    theta = model.init(jax.random.key(0), Task(rows, rows))
    last = {"kernel": 0.3 * jax.random.normal(jax.random.key(1), (8, 2)), "bias": jnp.ones(2)}
    return model, theta | {"network": [*theta["network"][:-1], last]}
