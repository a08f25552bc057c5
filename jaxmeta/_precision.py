"""Dtypes wide enough to compute in: half precision holds neither squares nor small constants."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.types import Array


def at_least_float32(dtype) -> np.dtype:
    """float32 for whatever is narrower, else the dtype itself (`promote_types`, also if strict)."""
    dtype = jnp.dtype(dtype)
    wide = jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize >= 4
    return dtype if wide else jnp.dtype(jnp.float32)


def wide(x: Array) -> Array:
    """An array in float32 at the least."""
    return x.astype(at_least_float32(x.dtype))


def as_one_dtype(*arrays: Array) -> list[Array]:
    """Floating-point arrays in the widest of their dtypes; float32 for two halves that differ."""
    dtypes = {jnp.dtype(array.dtype) for array in arrays}
    common = dtypes.pop() if len(dtypes) == 1 else max(map(at_least_float32, dtypes), key=_size)
    return [array.astype(common) for array in arrays]


def standard_promotion(function: Callable) -> Callable:
    """A function that mixes counts, masks and numbers freely, whatever `jax_numpy_dtype_promotion`.

    For code of other libraries, and for closed-form statistics.
    """

    @functools.wraps(function)
    def run(*args, **kwargs):
        with jax.numpy_dtype_promotion("standard"):
            return function(*args, **kwargs)

    return run


def _size(dtype: np.dtype) -> int:
    return dtype.itemsize
