"""Tasks of past classes, as hard and as varied as those of other fields may be."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.embeddings import _formula
from jaxmeta.embeddings._learner import ClassNames
from jaxmeta.tasks._draws import draw_rows, saying
from jaxmeta.types import Array, Examples, Sampler, Task

SHOTS = (0, 1, 1, 2, 5, 10)
"""From these each task draws; what a class cannot supply is left out."""

_NEAR = 0.7  # the share of tasks whose classes are near each other
_FEWER = 0.3  # the share of tasks whose classes have different numbers of rows
_NAMELESS, _FORGOTTEN = 0.2, 0.1  # tasks without names, and names that are missing in others
_NOISY = (0.6, 0.5)  # tasks with noise in their rows, and in their names


class PastClasses(NamedTuple):
    """Rows by class. N rows, K classes.

    Attributes:
      x: rows of unit length, a class after the other `[N, D]`.
      labels: the class of each `[N]`.
      first: where each class begins `[K]`.
      counts: its rows `[K]`.
      means: of its rows `[K, D]`.
      names: of unit length, zeros where there is none `[K, D]`.
      known: 1 where there is a name `[K]`.
    """

    x: Array
    labels: Array
    first: Array
    counts: Array
    means: Array
    names: Array
    known: Array


def past_classes(x: np.ndarray, codes: np.ndarray, names: np.ndarray, known: np.ndarray):
    """Rows `[N, D]` by their classes `[N]`, with names `[K, D]`."""
    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes, minlength=len(names))
    sums = np.zeros(names.shape, np.float32)
    np.add.at(sums, codes, x)
    first = np.cumsum(counts) - counts
    means = sums / np.maximum(counts, 1)[:, None].astype(np.float32)
    arrays = (x[order], codes[order], first, counts, means, names, known)
    return PastClasses(*map(jnp.asarray, arrays))


def varied_tasks(
    data: PastClasses,
    classes: np.ndarray,
    *,
    ways: int,
    most: int,
    queries: int,
    capacity: int,
    noise: float = 0.0,
    clean: bool = False,
) -> Sampler:
    """Tasks of some classes: near each other or not, with names or not, and with noise or without.

    Classes that are near stand for a narrow field, noise of the size of a class's own spread for
    one whose classes overlap: probabilities that are right on both are right on fields in between.

    Args:
      data: the rows.
      classes: which to draw from.
      ways: classes of a task.
      most: support rows a class, to which a task is padded.
      queries: query rows a class.
      capacity: rows of the largest class.
      noise: the most that is added to rows, in units of what rows have beside their class.
      clean: no noise, all names, the same shots for all classes of a task.
    """
    centres = data.means[classes]
    centres = _formula.unit(jnp, centres - centres.mean(axis=0)[None])
    alike = centres @ centres.T
    pool = jnp.asarray(classes)

    def with_classes(key: Array) -> tuple[Task, Array]:
        die_key, order_key, class_key, noise_key, uneven_key = jax.random.split(key, 5)
        dice = jax.random.uniform(die_key, (3,))
        anchor = jnp.floor(dice[0] * len(classes)).astype(jnp.int32)
        closeness = jnp.where(dice[1] < _NEAR, 10.0 * alike[anchor], 0.0)
        luck = jax.random.gumbel(class_key, (len(classes),))
        chosen = pool[jax.lax.top_k(closeness + luck, ways)[1]]
        size = data.counts[chosen]
        order = draw_rows(order_key, size, capacity, most + queries)
        rows = data.x[data.first[chosen][:, None] + order]
        names, known = data.names[chosen], data.known[chosen]
        num = jnp.asarray(SHOTS)[jnp.floor(dice[2] * len(SHOTS)).astype(jnp.int32)]
        each = jnp.full((ways,), num)
        if not clean:
            rows, names = _noisy(noise_key, noise, data, rows, names)
            each, known = _uneven(uneven_key, num, each, known)
        # A class has as many rows as it can spare, and a row if it has no name.
        each = jnp.clip(each, jnp.where(known > 0, 0, 1), jnp.clip(size - queries, 1, most))
        support = _as_rows(rows[:, :most], jnp.arange(most)[None] < each[:, None])
        spare = jnp.arange(queries)[None] < (size - each)[:, None]
        query = rows[jnp.arange(ways)[:, None], each[:, None] + jnp.arange(queries)[None]]
        return Task(support, _as_rows(query, spare), ClassNames(names, known)), chosen

    return saying(with_classes, np.zeros(len(classes), np.int32))


def _as_rows(x: Array, real: Array) -> Examples:
    """Rows `[C, each, D]` of which some are real `[C, each]`."""
    y = jnp.repeat(jnp.arange(len(x), dtype=jnp.int32), x.shape[1])
    flat = real.reshape(-1)
    x = jnp.where(flat[:, None], x.reshape(len(flat), -1), 0.0)
    return Examples(x, jnp.where(flat, y, -1), flat.astype(jnp.float32))


def _noisy(
    key: Array, noise: float, data: PastClasses, rows: Array, names: Array
) -> tuple[Array, Array]:
    """Rows with what other rows have beside their class, names with a share of other names."""
    die_key, row_key, name_key = jax.random.split(key, 3)
    dice = jax.random.uniform(die_key, (4,))
    sizes = jnp.where(dice[2:] < jnp.array(_NOISY), noise * dice[:2], 0.0)
    other = jax.random.randint(row_key, rows.shape[:2], 0, len(data.x))
    beside = data.x[other] - data.means[data.labels[other]]
    rows = _formula.unit(jnp, rows + sizes[0] * beside)
    other = jax.random.randint(name_key, names.shape[:1], 0, len(data.names))
    beside = data.names[other] - data.names.mean(axis=0)[None]
    return rows, _formula.unit(jnp, names + sizes[1] * beside)


def _uneven(key: Array, num: Array, each: Array, known: Array) -> tuple[Array, Array]:
    """Some tasks without names, some names missing, more rows of one class than of another."""
    dice = jax.random.uniform(key, (len(known) + 1, 2))
    kept = (dice[1:, 0] < 1.0 - _FORGOTTEN) & (dice[0, 0] < 1.0 - _NAMELESS)
    fewer = jnp.floor(dice[1:, 1] * (num + 1).astype(dice.dtype)).astype(each.dtype)
    return jnp.where(dice[0, 1] < _FEWER, fewer, each), jnp.where(kept, known, 0.0)
