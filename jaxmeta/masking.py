"""Padding made harmless."""

import jax.numpy as jnp

from jaxmeta.types import Array, Examples


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
