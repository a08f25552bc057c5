"""What a network is here, and how networks are put together."""

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta._precision import wide
from jaxmeta.networks.modules import is_linen, linen_pair, nnx_pair
from jaxmeta.types import Array, Network, PyTree
from jaxmeta.validation import check_inputs


class PairNetwork(NamedTuple):
    """A network as two pure functions; the concrete form of the `Network` protocol.

    A network that is normalised by the statistics of a batch has two functions more. With them a
    learner keeps the statistics of the support set in `w`, and a query is judged on its own.

    Attributes:
      init: `(key, x [N, ...]) -> params`, a pytree.
      apply: `(params, x [N, ...]) -> features [N, F]`. It may take a keyword `key`, from which it
        draws its noise (dropout, say); without one its answer is deterministic.
      condition: `(params, x, mask [N]) -> (features [N, F], params)`, both by the statistics of
        the real rows of x, which the returned params hold; None where there are none.
      forget: `params -> params` without statistics; None likewise.
      takes_integers: whether x may be of integers, such as token ids.
    """

    init: Callable[[Array, Array], PyTree]
    apply: Callable[..., Array]
    condition: Callable[..., tuple[Array, PyTree]] | None = None
    forget: Callable[[PyTree], PyTree] | None = None
    takes_integers: bool = True


def from_nnx(build: Callable) -> PairNetwork:
    """A network from a flax NNX module.

    Linen modules need no adapter: learners take them as they are.

    Args:
      build: `(rngs: nnx.Rngs) -> nnx.Module`, a module that is called as `module(x)`.

    Returns:
      A network whose `nnx.Param` are parameters; all else that the module holds is constant, see
      `networks.Variables`. Without a key it is `deterministic`, where it has such a switch.

    Examples:
      >>> network = from_nnx(lambda rngs: nnx.Linear(784, 64, rngs=rngs))
    """
    return PairNetwork(*nnx_pair(build))


def as_pair(network: Network) -> PairNetwork:
    """Any network as a pair whose `apply` and `condition` take a `key`, and may ignore it."""
    if is_linen(network):
        return PairNetwork(*linen_pair(network))
    condition = getattr(network, "condition", None)
    return PairNetwork(
        network.init,
        _with_key(network.apply),
        None if condition is None else _with_key(condition),
        getattr(network, "forget", None),
        getattr(network, "takes_integers", True),
    )


def takes_key(network: Network) -> bool:
    """Whether a network can draw noise."""
    return is_linen(network) or has_key(network.apply)


def has_key(function: Callable[..., Any]) -> bool:
    """Whether a function takes a keyword `key`."""
    return "key" in inspect.signature(function).parameters


def _with_key(function: Callable[..., Any]) -> Callable[..., Any]:
    return function if has_key(function) else lambda *args, key=None: function(*args)


def encoder(network: Network, learner: str | None = None) -> PairNetwork:
    """A network as learners use it: inputs are checked, features are float32 at the least.

    Half precision is what a network may compute in; distances, means and solutions of its features
    are not.

    Args:
      network: any network.
      learner: the name of a learner that embeds queries apart from its support set, so that a
        network normalised by batch statistics would answer for a row by the rows beside it.

    Raises:
      ValueError: for such a network, if a learner is named.
    """
    pair = as_pair(network)
    if learner is not None and pair.condition is not None:
        raise ValueError(
            f"{learner} embeds queries apart from the support set, and this network is normalised "
            "by the statistics of a batch: the answer for a row would depend on the rows beside "
            "it. Use norm='layer'; or maml and its relatives, which keep the support set's "
            "statistics; or, if that is what you want, networks.transductive(network)."
        )

    def apply(params: PyTree, x: Array, *, key: Array | None = None) -> Array:
        check_inputs(x, takes_integers=pair.takes_integers)
        return wide(pair.apply(params, x, key=key))

    def condition(params: PyTree, x: Array, mask: Array, *, key: Array | None = None):
        check_inputs(x, takes_integers=pair.takes_integers)
        features, params = conditioned(params, x, mask, key=key)
        return wide(features), params

    conditioned: Any = pair.condition
    return pair._replace(apply=apply, condition=condition if conditioned else None)


def features_like(network: PairNetwork, params: PyTree, x: Array) -> Array:
    """Zeros of the shape and dtype of the features of x: what whoever reads them is made for."""
    shape = jax.eval_shape(network.apply, params, x)
    return jnp.zeros(shape.shape, shape.dtype)


def transductive(network: Network) -> PairNetwork:
    """A network normalised by whatever batch it is shown: rows are judged in each other's light.

    The named variant of the papers whose queries are normalised by statistics of the queries.

    Args:
      network: one normalised by batch statistics, such as `conv4(norm="batch")`.
    """
    return as_pair(network)._replace(condition=None, forget=None)


def rows_of(x: Array) -> Array:
    """`x [N, ...]` flattened to `[N, F]`, for no rows and for a symbolic number of them too."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def identity() -> PairNetwork:
    """No network: rows flattened to `[N, F]`, no parameters."""
    return PairNetwork(lambda key, x: (), lambda params, x: rows_of(x), takes_integers=False)


def unit_rms(x: Array) -> Array:
    """Rows of `x [..., F]` scaled to mean square one, in the dtype of x."""
    small, scale = scaled_down(wide(x))
    mean_square = jnp.square(small).mean(axis=-1, keepdims=True)
    return (small * jax.lax.rsqrt(mean_square + 1e-6 * jnp.square(scale))).astype(x.dtype)


def scaled_down(x: Array) -> tuple[Array, Array]:
    """Rows of `x [..., F]` times a power of two `[..., 1]` at which no square overflows; and it.

    It is 1 for rows of numbers below one. A power of two costs no digit.
    """
    largest = jax.lax.stop_gradient(jnp.abs(x)).max(axis=-1, keepdims=True, initial=1.0)
    # The inverse of the very largest numbers is too small to be one.
    exponent = jnp.minimum(jnp.frexp(largest)[1], jnp.finfo(x.dtype).maxexp - 8)
    scale = jnp.ldexp(jnp.ones_like(largest), 1 - exponent)
    return x * scale, scale


def rms_norm() -> PairNetwork:
    """`unit_rms` as a network without parameters."""
    return PairNetwork(lambda key, x: (), lambda params, x: unit_rms(x), takes_integers=False)


def chain(*networks: Network) -> PairNetwork:
    """One network after the other; the parameters are a list, one entry a network.

    If one of them is normalised by batch statistics, the chain keeps and forgets them too.
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

    def condition(params: list[PyTree], x: Array, mask: Array, *, key: Array | None = None):
        known = []
        for pair, each, each_key in zip(pairs, params, keys_of(key), strict=True):
            if pair.condition is None:
                x = pair.apply(each, x, key=each_key)
            else:
                x, each = pair.condition(each, x, mask, key=each_key)
            known.append(each)
        return x, known

    def forget(params: list[PyTree]) -> list[PyTree]:
        return [
            each if pair.forget is None else pair.forget(each)
            for pair, each in zip(pairs, params, strict=True)
        ]

    keeps_statistics = any(pair.condition is not None for pair in pairs)
    noiseless = not any(map(takes_key, networks))
    return PairNetwork(
        init,
        (lambda params, x: apply(params, x)) if noiseless else apply,
        condition if keeps_statistics else None,
        forget if keeps_statistics else None,
        pairs[0].takes_integers if pairs else True,
    )
