"""Which classes a task holds, which instances of each, and samplers that say so."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.datasets._images import ImageClasses
from jaxmeta.types import Array, Examples, Sampler, Task


def class_pools(data: ImageClasses, within_group: bool) -> tuple[Array, np.ndarray]:
    """Class indices by group, padded: `pool [G, K_max]` and how many of each are real `[G]`."""
    groups = data.groups if within_group else np.zeros_like(data.groups)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    sizes = np.array([len(group) for group in members])
    pool = np.zeros((len(members), sizes.max()), np.int32)
    for row, group in zip(pool, members, strict=True):
        row[: len(group)] = group
    return jnp.asarray(pool), sizes


def draw_classes(
    pool: Array, pool_sizes: np.ndarray, num_orientations: int, ways: int, key: Array
) -> tuple[Array, Array]:
    """Distinct pairs of a class of one group and an orientation: both `[C]`."""
    group_key, order_key = jax.random.split(key)
    # Groups are drawn in proportion to their classes, so that each class is as likely.
    group = jax.random.choice(
        group_key, len(pool_sizes), p=jnp.asarray(pool_sizes / pool_sizes.sum(), jnp.float32)
    )
    size = jnp.asarray(pool_sizes)[group]
    num_slots = pool.shape[1] * num_orientations
    slots = jnp.arange(num_slots)
    noise = jax.random.uniform(order_key, (num_slots,))
    # Slots past the group's size sort last; a full sort is cheap beside the images.
    chosen = jnp.argsort(jnp.where(slots // num_orientations < size, noise, 2.0))[:ways]
    return pool[group, chosen // num_orientations], chosen % num_orientations


def draw_rows(key: Array, counts: Array, capacity: int, per_class: int) -> Array:
    """Distinct instances of each class `[C, per_class]`, none past the class's count."""
    noise = jax.random.uniform(key, (len(counts), capacity))
    present = jnp.arange(capacity)[None] < counts[:, None]
    return jnp.argsort(jnp.where(present, noise, 2.0), axis=1)[:, :per_class]


def rows_of_classes(x: Array, num_ways: Array | int, num_each: Array | int) -> Examples:
    """`x [C, each, ...]` as rows; those past the task's own ways or shots are padding."""
    ways, each = x.shape[:2]
    labels = jnp.repeat(jnp.arange(ways, dtype=jnp.int32), each)
    rank = jnp.tile(jnp.arange(each), ways)
    real = (labels < num_ways) & (rank < num_each)
    x = x.reshape(-1, *x.shape[2:])
    x = jnp.where(real.reshape(-1, *[1] * (x.ndim - 1)), x, 0.0)
    return Examples(x, jnp.where(real, labels, -1), real.astype(jnp.float32))


def saying(with_classes: Callable[[Array], tuple[Task, Array]], groups: np.ndarray) -> Sampler:
    """A sampler that also says which classes, and which group, the task of a key holds.

    Args:
      with_classes: from a key to the task and its classes.
      groups: the group of each class `[K]`.
    """

    def sampler(key: Array) -> Task:
        return with_classes(key)[0]

    def classes(key: Array) -> Array:
        return with_classes(key)[1]  # compiled, this draws nothing else

    named: Any = sampler
    named.classes, named.with_classes = classes, with_classes
    named.group = lambda key: jnp.asarray(groups)[classes(key)[0]]
    return sampler
