"""Networks that compute in half precision, for learners that go on in full."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxmeta.networks._core import InitApply, as_pair, takes_key
from jaxmeta.types import Array, Network, PyTree


def mixed_precision(network: Network, dtype: jax.typing.DTypeLike) -> InitApply:
    """The network with its matrix products and convolutions in `dtype`, such as bfloat16.

    Parameters and images are cast on their way in and features back on their way out: what holds
    theta, takes its gradient, computes distances and losses, and updates, is as precise as before.
    The encoders of this library compute their statistics in float32 in any case.

    Args:
      network: any network.
      dtype: of parameters and of x inside `network.apply`.

    Returns:
      A network with the same `init`, whose features have the dtype of x as it was given, or
      float32 if x is of integers.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxmeta import networks
      >>> network = networks.mixed_precision(networks.mlp([8]), "bfloat16")
      >>> x = jnp.ones((2, 3))
      >>> params = network.init(jax.random.key(0), x)
      >>> network.apply(params, x).shape
      (2, 8)
    """
    dtype = jnp.dtype(dtype)
    pair = as_pair(network)

    def cast(tree: PyTree) -> PyTree:
        return jax.tree.map(
            lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf,
            tree,
        )

    def as_given(features: Array, x: Array) -> Array:
        floating = jnp.issubdtype(x.dtype, jnp.floating)
        return features.astype(x.dtype if floating else jnp.float32)

    def apply(params: PyTree, x: Array, *, key: Array | None = None) -> Array:
        return as_given(pair.apply(cast(params), cast(x), key=key), x)

    def with_statistics(params: PyTree, x: Array, mask: Array, *, key: Array | None = None):
        features, known = conditioned(cast(params), cast(x), mask, key=key)
        return as_given(features, x), _precise_again(known, without_statistics(params))

    conditioned: Any = pair.with_statistics
    without_statistics: Any = pair.without_statistics
    return pair._replace(
        apply=apply if takes_key(network) else (lambda params, x: apply(params, x)),
        with_statistics=with_statistics if conditioned else None,
    )


def _precise_again(known: PyTree, given: PyTree) -> PyTree:
    """What was measured, and all that was not as it was before it was cast."""
    before = dict(jax.tree_util.tree_leaves_with_path(given))
    return jax.tree_util.tree_map_with_path(lambda path, leaf: before.get(path, leaf), known)
