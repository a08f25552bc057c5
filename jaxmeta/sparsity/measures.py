"""Measures of what is in `w`, exact zeros being nothing."""

import jax.numpy as jnp

from jaxmeta._tree import parameters
from jaxmeta.types import Array, PyTree


def nonzeros(w: PyTree) -> Array:
    """Number of parameters that are not exactly zero, int32."""
    return _count([leaf != 0 for leaf in parameters(w)])


def size(w: PyTree) -> int:
    """Number of parameters, zeros included."""
    return sum(leaf.size for leaf in parameters(w))


def density(w: PyTree) -> Array:
    """Share of the parameters that is not exactly zero, in [0, 1]."""
    return nonzeros(w) / max(size(w), 1)


def live_inputs(w: PyTree) -> Array:
    """Inputs that are read, summed over kernels `[..., in, out]`: rows that are not all zeros."""
    return _count([_alive(leaf, -2) for leaf in _kernels(w)])


def live_units(w: PyTree) -> Array:
    """Units that read anything, summed over kernels `[..., in, out]`: columns not all zeros."""
    return _count([_alive(leaf, -1) for leaf in _kernels(w)])


def multiply_adds(w: PyTree) -> Array:
    """Multiplications that a row costs in kernels `[in, out]`; for a convolution's, at one place.

    One for each entry that is not zero, which is what a sparse product makes of it.
    """
    return _count([leaf != 0 for leaf in _kernels(w)])


def num_bytes(w: PyTree) -> Array:
    """Bytes to ship `w`, leaf by leaf: dense, or each non-zero with a 4-byte index if smaller."""
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
