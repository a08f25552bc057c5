"""Measures of what is in `w`, exact zeros being nothing."""

import jax.numpy as jnp

from jaxmeta._tree import parameters
from jaxmeta.types import Array, PyTree


def nonzeros(w: PyTree) -> Array:
    """The number of parameters that are not exactly zero, int32 `[]`."""
    return _count([leaf != 0 for leaf in parameters(w)])


def size(w: PyTree) -> int:
    """The number of parameters, zeros included."""
    return sum(leaf.size for leaf in parameters(w))


def density(w: PyTree) -> Array:
    """The share of the parameters that are not exactly zero, in [0, 1]."""
    return nonzeros(w) / max(size(w), 1)


def live_inputs(w: PyTree) -> Array:
    """The number of inputs that are read: rows of kernels `[..., in, out]` with a non-zero."""
    return _count([_alive(leaf, -2) for leaf in _kernels(w)])


def live_units(w: PyTree) -> Array:
    """The number of units that read anything: columns of kernels `[..., in, out]` likewise."""
    return _count([_alive(leaf, -1) for leaf in _kernels(w)])


def multiply_adds(w: PyTree) -> Array:
    """The multiplications that one row costs, which are the non-zeros of kernels `[in, out]`.

    Those of a convolution's kernel are counted at one place of the image.
    """
    return _count([leaf != 0 for leaf in _kernels(w)])


def num_bytes(w: PyTree) -> Array:
    """The bytes that it takes to ship `w`, int32 `[]`.

    Each leaf counts dense, or as its non-zeros with a 4-byte index each, whichever is smaller.
    """
    dense_or_sparse = [
        jnp.minimum(leaf.nbytes, jnp.count_nonzero(leaf) * (leaf.dtype.itemsize + 4))
        for leaf in parameters(w)
    ]
    return jnp.asarray(sum(dense_or_sparse), jnp.int32)


def _alive(leaf: Array, axis: int) -> Array:
    """Which places along `axis` hold anything but zeros."""
    return (jnp.moveaxis(leaf, axis, -1) != 0).any(axis=tuple(range(leaf.ndim - 1)))


def _kernels(w: PyTree) -> list[Array]:
    return [leaf for leaf in parameters(w) if leaf.ndim >= 2]


def _count(places: list[Array]) -> Array:
    return jnp.asarray(sum(place.sum() for place in places), jnp.int32)
