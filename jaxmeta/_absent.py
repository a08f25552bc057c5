"""The logit of a class that a task does not have.

It is the least number that the dtype holds, and no other logit is allowed to be as low: whatever
the scale of the features, an absent class wins no comparison, gets a probability of exactly zero,
and can be told from all others. It is finite, so that no derivative is infinite or NaN.
"""

import jax.numpy as jnp

from jaxmeta._precision import wide
from jaxmeta.types import Array

_ALMOST = 1.0 - 2.0**-20
"""Of the least number: as low as a logit may be."""


def least(z: Array) -> float:
    """The logit of an absent class in the dtype of z."""
    return float(jnp.finfo(z.dtype).min)


def bounded(z: Array) -> Array:
    """Logits of which none is as low as that of an absent class, in float32 at the least."""
    z = wide(z)
    return jnp.maximum(z, _ALMOST * least(z))


def with_absent(z: Array, present: Array) -> Array:
    """Logits `z [N, C]` where `present [C]`, and those of absent classes elsewhere."""
    z = bounded(z)
    return jnp.where(present, z, least(z))


def is_absent(z: Array) -> Array:
    """Which logits are those of absent classes."""
    return z <= least(z)
