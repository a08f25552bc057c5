"""Networks made from nothing, from other networks, or from flax modules of NNX."""

from collections.abc import Callable

import jax

from jaxmeta.networks._core import InitApply, as_pair, features_like, rows_of, takes_key, unit_rms
from jaxmeta.networks._modules import nnx_pair
from jaxmeta.types import Array, Network, PyTree


def from_nnx(build: Callable) -> InitApply:
    """A network from a flax NNX module.

    Linen modules need no adapter: learners take them as they are.

    Args:
      build: `(rngs: nnx.Rngs) -> nnx.Module`, a module that is called as `module(x)`.

    Returns:
      A network whose `nnx.Param` are parameters; all else that the module holds is constant, see
      `networks.Variables`. Without a key it is `deterministic`, where it has such a switch.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> from jaxmeta import networks
      >>> network = networks.from_nnx(lambda rngs: nnx.Linear(4, 8, rngs=rngs))
      >>> params = network.init(jax.random.key(0), jnp.ones((2, 4)))
      >>> network.apply(params, jnp.ones((2, 4))).shape
      (2, 8)
    """
    return InitApply(*nnx_pair(build))


def transductive(network: Network) -> InitApply:
    """A network normalised by whatever batch it is shown: rows are judged in each other's light.

    The named variant of the papers whose queries are normalised by statistics of the queries.

    Args:
      network: one normalised by batch statistics, such as `conv4(norm="batch")`.

    Returns:
      The network, of which learners do not keep the support set's statistics in `w`.

    Example:
      >>> from jaxmeta import learners, networks
      >>> network = networks.transductive(networks.conv4(8, norm="batch"))
      >>> learner = learners.prototypes(network, ways=5)
    """
    return as_pair(network)._replace(with_statistics=None, without_statistics=None)


def identity() -> InitApply:
    """Take raw features: rows flattened to `[N, F]`, without parameters.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxmeta import networks
      >>> network = networks.identity()
      >>> x = jnp.ones((2, 3, 4))
      >>> params = network.init(jax.random.key(0), x)
      >>> network.apply(params, x).shape
      (2, 12)
    """
    return InitApply(lambda key, x: (), lambda params, x: rows_of(x), takes_integers=False)


def rms_norm() -> InitApply:
    """Scale each row of features to a mean square of one, without parameters.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxmeta import networks
      >>> network = networks.rms_norm()
      >>> x = jnp.ones((2, 3))
      >>> params = network.init(jax.random.key(0), x)
      >>> network.apply(params, x).shape
      (2, 3)
    """
    return InitApply(lambda key, x: (), lambda params, x: unit_rms(x), takes_integers=False)


def chain(*networks: Network) -> InitApply:
    """One network after the other; the parameters are a list, one entry a network.

    If one of them is normalised by batch statistics, the chain keeps and forgets them too.

    Args:
      *networks: each reads the features of the one before it.

    Returns:
      A network from the input of the first to the features of the last.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxmeta import networks
      >>> network = networks.chain(networks.mlp([8]), networks.rms_norm())
      >>> x = jnp.ones((2, 3))
      >>> params = network.init(jax.random.key(0), x)
      >>> network.apply(params, x).shape
      (2, 8)
    """
    pairs = [as_pair(network) for network in networks]

    def init(key: Array, x: Array) -> list[PyTree]:
        params = []
        for each_key, pair in zip(jax.random.split(key, len(pairs)), pairs, strict=True):
            params.append(pair.init(each_key, x))
            x = features_like(pair, params[-1], x)
        return params

    def keys_of(key: Array | None) -> list[Array] | list[None]:
        return [None] * len(pairs) if key is None else list(jax.random.split(key, len(pairs)))

    def apply(params: list[PyTree], x: Array, *, key: Array | None = None) -> Array:
        for pair, each, each_key in zip(pairs, params, keys_of(key), strict=True):
            x = pair.apply(each, x, key=each_key)
        return x

    def with_statistics(params: list[PyTree], x: Array, mask: Array, *, key: Array | None = None):
        known = []
        for pair, each, each_key in zip(pairs, params, keys_of(key), strict=True):
            if pair.with_statistics is None:
                x = pair.apply(each, x, key=each_key)
            else:
                x, each = pair.with_statistics(each, x, mask, key=each_key)
            known.append(each)
        return x, known

    def without_statistics(params: list[PyTree]) -> list[PyTree]:
        return [
            each if pair.without_statistics is None else pair.without_statistics(each)
            for pair, each in zip(pairs, params, strict=True)
        ]

    keeps_statistics = any(pair.with_statistics is not None for pair in pairs)
    noiseless = not any(map(takes_key, networks))
    return InitApply(
        init,
        (lambda params, x: apply(params, x)) if noiseless else apply,
        with_statistics if keeps_statistics else None,
        without_statistics if keeps_statistics else None,
        pairs[0].takes_integers if pairs else True,
    )
