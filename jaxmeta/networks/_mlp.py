"""Multi-layer perceptrons over plain pytrees."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxmeta._precision import as_one_dtype
from jaxmeta._validation import check_positive
from jaxmeta.networks._core import InitApply, rows_of
from jaxmeta.types import Array

Activation = Callable[[Array], Array]


def dense_init(key: Array, in_size: int, out_size: int, *, gain: float = 2.0) -> dict[str, Array]:
    """A dense layer: `kernel [in, out]` of variance `gain / in`, `bias [out]` of zeros."""
    stddev = (gain / max(in_size, 1)) ** 0.5
    kernel = stddev * jax.random.normal(key, (in_size, out_size))
    return {"kernel": kernel, "bias": jnp.zeros(out_size)}


def dense(layer: dict[str, Array], x: Array) -> Array:
    """`x [..., in] -> [..., out]`."""
    x, kernel, bias = as_one_dtype(x, layer["kernel"], layer["bias"])
    z = x @ kernel
    return z + jnp.broadcast_to(bias, z.shape)


def mlp_apply(
    layers: Sequence[dict[str, Array]], x: Array, *, activation: Activation = jax.nn.relu
) -> Array:
    """`x [N, ...] -> [N, out]`, the activation between the layers and not after the last."""
    x = rows_of(x)
    for layer in layers[:-1]:
        x = activation(dense(layer, x))
    return dense(layers[-1], x)


def mlp(sizes: Sequence[int], *, activation: Activation = jax.nn.relu) -> InitApply:
    """A perceptron with layers of the given sizes, the last one being the output.

    Inputs `[N, ...]` are flattened to rows.

    Args:
      sizes: of the layers; the last one is the number of features F.
      activation: between the layers, and not after the last.

    Returns:
      A network `[N, ...] -> [N, F]`.

    Raises:
      ValueError: if there is no size, or one is less than 1.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxmeta import networks
      >>> network = networks.mlp([8, 4])
      >>> x = jnp.ones((2, 3))
      >>> params = network.init(jax.random.key(0), x)
      >>> network.apply(params, x).shape
      (2, 4)
    """
    if not sizes:
        raise ValueError("mlp needs at least one layer size, the output's.")
    check_positive(**{f"sizes[{i}]": size for i, size in enumerate(sizes)})

    def init(key: Array, x: Array) -> list[dict[str, Array]]:
        in_sizes = [math.prod(x.shape[1:]), *sizes[:-1]]
        keys = jax.random.split(key, len(sizes))
        return [dense_init(*args) for args in zip(keys, in_sizes, sizes, strict=True)]

    def apply(params: list[dict[str, Array]], x: Array) -> Array:
        return mlp_apply(params, x, activation=activation)

    return InitApply(init, apply, takes_integers=False)
