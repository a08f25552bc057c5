"""Rows of a task made safe: checked, blanked where padded, and told by class."""

import jax
import jax.numpy as jnp

from jaxmeta._validation import check_examples
from jaxmeta.networks._core import InitApply
from jaxmeta.types import Array, Examples, PyTree


def blank_padding(rows: Examples) -> Examples:
    """Examples whose padded inputs and targets are zeros, whatever they held.

    A masked loss is not enough: the derivative of zero times NaN is NaN, and a token id may be one
    that there is not. Classes are left alone.
    """

    def blank(leaf: Array) -> Array:
        real = rows.mask.astype(bool).reshape(-1, *[1] * (leaf.ndim - 1))
        return jnp.where(real, leaf, jnp.zeros((), leaf.dtype))

    classes = jnp.issubdtype(rows.y.dtype, jnp.integer) and rows.y.ndim == 1
    return rows._replace(x=blank(rows.x), y=rows.y if classes else blank(rows.y))


def read_support(
    support: Examples,
    ways: int | None,
    network: InitApply | None = None,
    *,
    classes_for: str | None = None,
    may_be_empty: bool = False,
) -> Examples:
    """The support set, checked, its padded rows blanked so that whatever they held is gone.

    Args:
      support: labelled rows.
      ways: number of classes; by default the number of rows.
      network: what reads x, which says whether integers will do; None for a learner that computes
        with x itself.
      classes_for: the name of a learner that knows classes only.
      may_be_empty: whether there may be no real row.

    Raises:
      ValueError: if it is malformed, or a label is `ways` or more.
    """
    check_examples(
        support,
        ways=support.y.shape[0] if ways is None else ways,
        takes_integers=network is not None and network.takes_integers,
        classes_for=classes_for,
        may_be_empty=may_be_empty,
    )
    return blank_padding(support)


def one_hot_labels(support: Examples, ways: int | None) -> Array:
    """Membership `[S, C]` of the real support rows; a padded row belongs to no class.

    `ways` is the static number of columns C. With None there are as many as support rows: a
    class that can be predicted has at least one row.
    """
    columns = support.y.shape[0] if ways is None else ways
    return jnp.where(support.mask.astype(bool)[:, None], jax.nn.one_hot(support.y, columns), 0.0)


def classes_there(description: PyTree, ways: int, name: str) -> Array:
    """Which classes there are, bool `[C]`, by a description `[C]`; all without one.

    Args:
      description: 1 for each class that there is, or None.
      ways: number of classes C.
      name: of the learner, for the message.

    Raises:
      ValueError: for another shape.
    """
    if description is None:
        return jnp.ones(ways, bool)
    if jnp.shape(description) != (ways,):
        raise ValueError(
            f"{name} reads as description which of {ways} classes there are, [C], got shape "
            f"{jnp.shape(description)}."
        )
    return jnp.asarray(description) > 0


def mean_of(rows: Array, real: Array) -> Array:
    """The mean `[F]` of the real ones of `rows [N, F]`; zeros for none."""
    count = real.sum(dtype=rows.dtype)
    return jnp.where(real[:, None], rows, 0.0).sum(axis=0) / jnp.maximum(count, 1.0)
