"""Networks that compute in half precision, for learners that go on in full."""

import jax
import jax.numpy as jnp

from jaxmeta.networks.base import PairNetwork
from jaxmeta.networks.conv import BatchNormNetwork
from jaxmeta.types import Array, Network, PyTree


def in_precision(network: Network, dtype: jax.typing.DTypeLike) -> Network:
    """The network with its matrix products and convolutions in `dtype`, such as bfloat16.

    Parameters and images are cast on their way in and features back on their way out: what holds
    theta, takes its gradient, computes distances and losses, and updates, is as precise as before.
    The encoders of this library compute their statistics in float32 in any case.

    Args:
      network: any network.
      dtype: of parameters and of x inside `network.apply`.

    Returns:
      A network with the same `init`, whose features have the dtype of x as it was given.
    """
    dtype = jnp.dtype(dtype)

    def cast(tree: PyTree) -> PyTree:
        return jax.tree.map(
            lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf,
            tree,
        )

    def apply(params: PyTree, x: Array) -> Array:
        return network.apply(cast(params), cast(x)).astype(x.dtype)

    if not isinstance(network, BatchNormNetwork):
        return PairNetwork(network.init, apply)

    def condition(params: PyTree, x: Array, mask: Array) -> tuple[Array, PyTree]:
        features, known = network.condition(cast(params), cast(x), mask)
        # Statistics are new; all else stays as precise as it was.
        pairs = zip(known, network.forget(params), strict=True)
        return features.astype(x.dtype), [seen | given for seen, given in pairs]

    return BatchNormNetwork(network.init, apply, condition, network.forget)
