"""Ratings of films: the file, users for training, validation and test, and users as tasks."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.data_folder import data_folder
from jaxmeta import Examples, Task
from jaxmeta.types import Sampler

GENRES = (
    *("unknown", "action", "adventure", "animation", "children", "comedy", "crime"),
    *("documentary", "drama", "fantasy", "film-noir", "horror", "musical", "mystery"),
    *("romance", "sci-fi", "thriller", "war", "western"),
)
"""What the columns of `item_genres` stand for, as u.genre of MovieLens 100k has them."""
MOST_RATINGS = 20
"""Ratings of a user that may be known; all the others are the query, however few are known."""
RATED, OTHERS = 160, 120
"""Films of a training task: rated ones first, as many as there are, and others."""
LIKED = 4.0
"""A film with this rating or more was worth recommending."""


class Ratings(NamedTuple):
    """Ratings `matrix [U, M]` of U users for M films, NaN where there is none; `genres [M, G]`."""

    matrix: np.ndarray
    genres: np.ndarray

    def of(self, users: np.ndarray) -> np.ndarray:
        """The rows of some users."""
        return self.matrix[users]


class Viewer(NamedTuple):
    """A user whose ratings are to be told: the films that are known first, and those asked for."""

    known: np.ndarray
    asked: np.ndarray
    row: np.ndarray


def load(data_dir: str | None) -> Ratings:
    """Ratings from `DIR/ml100k.npz` or `DIR/movielens/ml100k.npz`, by flag or by JAXMETA_DATA.

    Raises:
      ValueError: if there is no folder, or the file lacks something.
      OSError: if the file cannot be read.
    """
    path = data_folder(data_dir, "movielens", "ml100k.npz has to") / "ml100k.npz"
    with np.load(path) as arrays:
        missing = {"user", "item", "rating", "item_genres"} - set(arrays)
        if missing:
            raise ValueError(f"{path} holds no ratings: it lacks {', '.join(sorted(missing))}.")
        user, item = arrays["user"], arrays["item"]
        genres = arrays["item_genres"].astype(np.float32)
        matrix = np.full((int(user.max()) + 1, len(genres)), np.nan, np.float32)
        matrix[user, item] = arrays["rating"]
    return Ratings(matrix, genres)


def split(num_users: int, seed: int) -> dict[str, np.ndarray]:
    """Users for training (seven in ten), validation (one) and test (two)."""
    order = np.random.default_rng(seed).permutation(num_users)
    cuts = [int(0.7 * num_users), int(0.7 * num_users) + int(0.1 * num_users)]
    return dict(zip(("train", "valid", "test"), np.split(order, cuts), strict=True))


def viewers(ratings: Ratings, users: np.ndarray, seed: int) -> list[Viewer]:
    """The users who have rated more than `MOST_RATINGS` films, these in an order by chance."""
    found = []
    for user in users:
        films = np.flatnonzero(~np.isnan(ratings.matrix[user]))
        order = np.random.default_rng([seed, int(user)]).permutation(films)
        if len(order) > MOST_RATINGS:
            row = ratings.matrix[user]
            found.append(Viewer(order[:MOST_RATINGS], order[MOST_RATINGS:], row))
    return found


def support_of(films: np.ndarray, values: np.ndarray, size: int = MOST_RATINGS) -> Examples:
    """Rated films as rows of a support set, padded to one size."""
    x, y = np.zeros((size, 1), np.int32), np.zeros((size, 1), np.float32)
    x[: len(films), 0], y[: len(films), 0] = films, values
    mask = (np.arange(size) < len(films)).astype(np.float32)
    return Examples(*(jnp.asarray(each) for each in (x, y, mask)))


def tasks_of(matrix: np.ndarray, blocks: np.ndarray) -> Sampler:
    """Users as tasks: some ratings to adapt to; others, and films not rated, to be judged by.

    How many ratings there are is drawn log-uniformly, from 1 to `MOST_RATINGS`, and half of what
    the user has rated at the most. A row of the query has y = [rating, whether it was rated].

    Args:
      matrix: ratings `[U, M]`, NaN where there is none.
      blocks: in which block of the table of films each user looks them up `[U]`.
    """
    num_films = matrix.shape[1]
    ratings, seen = jnp.asarray(np.nan_to_num(matrix)), jnp.asarray(~np.isnan(matrix))
    start = jnp.asarray(blocks * num_films, jnp.int32)

    def sampler(key: jax.Array) -> Task:
        user_key, order_key, size_key = jax.random.split(key, 3)
        user = jax.random.randint(user_key, (), 0, len(matrix))
        # The rated ones first, the others last, both in an order by chance.
        chance = jax.random.uniform(order_key, (num_films,)) + jnp.where(seen[user], 0.0, 1.0)
        order = jnp.argsort(chance)
        size = jnp.exp(jax.random.uniform(size_key) * jnp.log(MOST_RATINGS + 0.99))
        size = jnp.clip(size.astype(int), 1, jnp.maximum(seen[user].sum() // 2, 1))
        films = jnp.concatenate([order[:RATED], order[max(RATED, num_films - OTHERS) :]])
        known = jnp.arange(len(films)) < size
        x, rated = start[user] + films[:, None], seen[user, films].astype(jnp.float32)
        told = jnp.stack([ratings[user, films], rated], axis=1)
        mask = known[:MOST_RATINGS].astype(jnp.float32)
        support = Examples(x[:MOST_RATINGS], told[:MOST_RATINGS, :1], mask)
        return Task(support, Examples(x, told, jnp.where(known, 0.0, 1.0)))

    return sampler
