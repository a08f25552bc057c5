"""Which classes a task holds, and which instances of each."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.datasets._images import ImageClasses
from jaxmeta.types import Array


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
