"""What a network is here, and how networks are put together."""

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta._precision import wide
from jaxmeta._validation import check_inputs
from jaxmeta.networks._modules import is_linen, linen_pair
from jaxmeta.types import Array, Network, PyTree


class InitApply(NamedTuple):
    """A network as two pure functions; the concrete form of the `Network` protocol.

    A network that is normalised by the statistics of a batch has two functions more. With them a
    learner keeps the statistics of the support set in `w`, and a query is judged on its own.

    Attributes:
      init: `(key, x [N, ...]) -> params`, a pytree.
      apply: `(params, x [N, ...]) -> features [N, F]`. It may take a keyword `key`, from which it
        draws its noise (dropout, say); without one its answer is deterministic.
      with_statistics: `(params, x, mask [N]) -> (features [N, F], params)`, both by the statistics
        of the real rows of x, which the returned params hold; None where there are none.
      without_statistics: `params -> params` without statistics; None likewise.
      takes_integers: whether x may be of integers, such as token ids.
    """

    init: Callable[[Array, Array], PyTree]
    apply: Callable[..., Array]
    with_statistics: Callable[..., tuple[Array, PyTree]] | None = None
    without_statistics: Callable[[PyTree], PyTree] | None = None
    takes_integers: bool = True


def as_pair(network: Network) -> InitApply:
    """Any network as a pair whose `apply` and `with_statistics` take a `key`, and may ignore it."""
    if is_linen(network):
        return InitApply(*linen_pair(network))
    with_statistics = getattr(network, "with_statistics", None)
    return InitApply(
        network.init,
        _with_key(network.apply),
        None if with_statistics is None else _with_key(with_statistics),
        getattr(network, "without_statistics", None),
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


def encoder(network: Network, learner: str | None = None) -> InitApply:
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
    if learner is not None and pair.with_statistics is not None:
        raise ValueError(
            f"{learner} embeds queries apart from the support set, and this network is normalised "
            "by the statistics of a batch: the answer for a row would depend on the rows beside "
            "it. Use norm='layer'; or maml and its relatives, which keep the support set's "
            "statistics; or, if that is what you want, networks.transductive(network)."
        )

    def apply(params: PyTree, x: Array, *, key: Array | None = None) -> Array:
        check_inputs(x, takes_integers=pair.takes_integers)
        return wide(pair.apply(params, x, key=key))

    def with_statistics(params: PyTree, x: Array, mask: Array, *, key: Array | None = None):
        check_inputs(x, takes_integers=pair.takes_integers)
        features, params = conditioned(params, x, mask, key=key)
        return wide(features), params

    conditioned: Any = pair.with_statistics
    return pair._replace(apply=apply, with_statistics=with_statistics if conditioned else None)


def features_like(network: InitApply, params: PyTree, x: Array) -> Array:
    """Zeros of the shape and dtype of the features of x: what whoever reads them is made for."""
    shape = jax.eval_shape(network.apply, params, x)
    return jnp.zeros(shape.shape, shape.dtype)


def rows_of(x: Array) -> Array:
    """`x [N, ...]` flattened to `[N, F]`, for no rows and for a symbolic number of them too."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


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
