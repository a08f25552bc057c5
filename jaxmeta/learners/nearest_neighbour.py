"""One nearest neighbour on the raw inputs: nothing is learned, so this is the floor."""

import jax.numpy as jnp

from jaxmeta.learners.common import (
    ABSENT,
    SupportMemory,
    one_hot_labels,
    read_support,
    squared_distances,
)
from jaxmeta.types import Array, Examples, MetaLearner, PyTree, Task


def nearest_neighbour(*, ways: int | None = None) -> MetaLearner:
    """Classify by the nearest support row, in Euclidean distance between inputs.

        z_c = -min of |x - x_i|^2 over the support rows of class c

    Args:
      ways: static number of columns of the logits; by default the number of support rows.
    """

    def init(key: Array, task: Task) -> PyTree:
        del key, task
        return {}

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> SupportMemory:
        del theta, description, key
        support = read_support(support, ways)
        rows = support.x.reshape(len(support.x), -1)
        return SupportMemory(rows, one_hot_labels(support, ways) > 0)

    def predict(theta: PyTree, w: SupportMemory, x: Array) -> Array:
        del theta
        closeness = -squared_distances(x.reshape(x.shape[0], -1), w.embeddings)
        return jnp.where(w.members, closeness[:, :, None], ABSENT).max(axis=1)

    return MetaLearner(init, adapt, predict)
