"""What the classifying learners share: memberships, distances, and a memory of rows."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.masking import blank_padding
from jaxmeta.types import Array, Examples
from jaxmeta.validation import check_examples

ABSENT = -1e30
"""The logit of a class without support rows: no chance, and no infinity in the gradient."""


class SupportMemory(NamedTuple):
    """`w` of a learner that remembers its support rows.

    Attributes:
      embeddings: embedded support rows `[S, F]`; rows of zeros where padded.
      members: which class each row belongs to, bool `[S, C]`; all False where padded.
    """

    embeddings: Array
    members: Array


def read_support(support: Examples, ways: int | None) -> Examples:
    """The support set, checked, its padded rows blanked so that whatever they held is gone.

    Raises:
      ValueError: if it is malformed, or a label is `ways` (by default the number of rows) or more.
    """
    check_examples(support, ways=len(support.y) if ways is None else ways)
    return blank_padding(support)


def one_hot_labels(support: Examples, ways: int | None) -> Array:
    """Membership `[S, C]` of the real support rows; a padded row belongs to no class.

    `ways` is the static number of columns C. With None there are as many as support rows: a
    class that can be predicted has at least one row.
    """
    columns = len(support.y) if ways is None else ways
    return jax.nn.one_hot(support.y, columns) * (support.mask > 0)[:, None]


def unit_rows(x: Array) -> Array:
    """Rows of `x [N, F]` scaled to length one; a row of zeros stays zero, gradient included."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(axis=-1, keepdims=True), 1e-12))


def squared_distances(a: Array, b: Array) -> Array:
    """Squared Euclidean distances `[N, M]` between the rows of `a [N, F]` and `b [M, F]`."""
    squares = jnp.square(a).sum(axis=-1)[:, None] + jnp.square(b).sum(axis=-1)[None, :]
    return jnp.maximum(squares - 2.0 * a @ b.T, 0.0)
