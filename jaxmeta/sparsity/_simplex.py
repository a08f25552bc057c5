"""Attention with exact zeros: projection onto the simplex."""

import jax.numpy as jnp
import optax

from jaxmeta._precision import standard_promotion, wide
from jaxmeta._tree import is_parameter
from jaxmeta.types import Array


def sparsemax(scores: Array) -> Array:
    """The point of the simplex nearest to the scores: a softmax with exact zeros.

        p = argmin over the simplex of |p - scores|^2 = max(scores - tau, 0)

    Args:
      scores: `[..., N]`, an array; each row along the last axis is projected on its own.

    Returns:
      Weights `[..., N]`, zero or more, each row of which sums to one.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmeta import sparsity
      >>> print(sparsity.sparsemax(jnp.array([1.0, 0.5, -2.0])))
      [0.75 0.25 0.  ]

    References:
      Martins and Astudillo, From softmax to sparsemax, arXiv:1602.02068.
    """
    project = standard_promotion(optax.projections.projection_simplex)
    # In float32 at the least: optax's rule for the derivative mixes dtypes if given halves.
    nearest = jnp.vectorize(project, signature="(n)->(n)")(wide(scores))
    return nearest.astype(scores.dtype) if is_parameter(scores) else nearest
