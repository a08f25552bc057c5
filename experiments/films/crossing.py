"""The training users as unseen ones: each is told by what was learned without them.

Test users are few for a difference of thousandths. The table of films has a block for each fifth
of the training users that is of the other fifths; the network is trained anew on these.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from experiments.films import learner, serving, training
from experiments.films.data import Ratings, viewers
from experiments.films.judging import Method, Worth, measure
from experiments.films.table import FOLDS, Films
from jaxmeta import Task

Pair = tuple[Worth, Worth]
"""What our learner is worth, and the closed form of the same ratings."""


def judge(
    films: Films,
    ratings: Ratings,
    users: np.ndarray,
    blocks: np.ndarray,
    sizes: Sequence[int],
    *,
    seed: int,
    **options: Any,
) -> dict[int, Pair]:
    """Of all training users by number of known ratings; options as for `training.train`."""
    found: list[dict[int, Pair]] = []
    for block in range(1, FOLDS + 1):
        rest = blocks != block
        matrix = ratings.of(users[rest])
        name = f"taste-without-{block}"
        theta, _ = training.train(films, matrix, blocks[rest], name=name, seed=seed, **options)
        found.append(_of_block(films, theta, ratings, users[~rest], block, sizes, seed))
    pairs = {size: zip(*(each[size] for each in found), strict=True) for size in sizes}
    return {size: (_joined(ours), _joined(theirs)) for size, (ours, theirs) in pairs.items()}


def _of_block(
    films: Films,
    theta: Any,
    ratings: Ratings,
    users: np.ndarray,
    block: int,
    sizes: Sequence[int],
    seed: int,
) -> dict[int, Pair]:
    num_films = len(ratings.genres)
    told = viewers(ratings, users, seed)
    ours, prior = learner.taste(films, training.HIDDEN), learner.closed_form(films)
    rows = serving.support_of(told[0].known, told[0].row[told[0].known])
    plain = serving.block(prior.init(jax.random.key(0), Task(rows, rows)), num_films, block)
    theta = serving.block(theta, num_films, block)
    rate, rank = (serving.answers(ours, theta, num_films, column) for column in (0, 1))
    theirs = serving.answers(prior, plain, num_films, 0)
    ours_here, prior_here = Method("", rate, rank), Method("", theirs, theirs)
    return {
        size: (measure(ours_here, told, size), measure(prior_here, told, size)) for size in sizes
    }


def _joined(parts: Sequence[Worth]) -> Worth:
    return Worth(*(np.concatenate(values) for values in zip(*parts, strict=True)))
