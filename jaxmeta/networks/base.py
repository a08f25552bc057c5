"""What a network is here, and the adapters that turn other libraries' modules into one."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.types import Array, Network, PyTree


class PairNetwork(NamedTuple):
    """A network as two pure functions; the concrete form of the `Network` protocol.

    Attributes:
      init: `(key, x [N, ...]) -> params`, a pytree.
      apply: `(params, x [N, ...]) -> features [N, F]`.
    """

    init: Callable[[Array, Array], PyTree]
    apply: Callable[[PyTree, Array], Array]


def from_nnx(build: Callable) -> PairNetwork:
    """A network from a flax NNX module.

    Linen modules need no adapter: their `init` and `apply` are the pair already.

    Args:
      build: `(rngs: nnx.Rngs) -> nnx.Module`, a module that is called as `module(x)`.

    Examples:
      >>> network = from_nnx(lambda rngs: nnx.Linear(784, 64, rngs=rngs))
    """
    from flax import nnx  # imported here: slow to import, and no other network needs it

    # The graph definition holds the structure only, so an abstract module gives it for free.
    graph, _ = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))

    def init(key: Array, x: Array) -> PyTree:
        del x  # an NNX module is told its input sizes when it is built
        _, state = nnx.split(build(nnx.Rngs(key)))
        return nnx.to_pure_dict(state)

    def apply(params: PyTree, x: Array) -> Array:
        _, state = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(graph, state)(x)

    return PairNetwork(init, apply)


def identity() -> PairNetwork:
    """No network: rows flattened to `[N, F]`, no parameters."""
    return PairNetwork(lambda key, x: (), lambda params, x: x.reshape(x.shape[0], -1))


def unit_rms(x: Array) -> Array:
    """Rows of `x [..., F]` scaled to mean square one."""
    return x * jax.lax.rsqrt(jnp.square(x).mean(axis=-1, keepdims=True) + 1e-6)


def rms_norm() -> PairNetwork:
    """`unit_rms` as a network without parameters."""
    return PairNetwork(lambda key, x: (), lambda params, x: unit_rms(x))


def chain(*networks: Network) -> PairNetwork:
    """One network after the other; the parameters are a list, one entry a network."""

    def init(key: Array, x: Array) -> list[PyTree]:
        params = []
        for each_key, network in zip(jax.random.split(key, len(networks)), networks, strict=True):
            params.append(network.init(each_key, x))
            x = network.apply(params[-1], x)
        return params

    def apply(params: list[PyTree], x: Array) -> Array:
        for network, each in zip(networks, params, strict=True):
            x = network.apply(each, x)
        return x

    return PairNetwork(init, apply)
