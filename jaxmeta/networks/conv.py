"""Convolutional encoders for small images, `x [N, H, W, C] -> [N, F]`, over plain pytrees.

By default each image is normalised by its own statistics (`norm="layer"`), so an embedding depends
on nothing but its image: the learners built on these encoders are inductive by construction. With
`norm="batch"` the statistics are those of a batch: of the one that `condition` was shown, which
fixes them, else of whatever batch is being embedded.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.networks.base import PairNetwork
from jaxmeta.networks.task_conv import task_conv
from jaxmeta.types import Array
from jaxmeta.validation import check_positive

Layer = dict[str, Array]
Normalise = Callable[..., Array]
"""`(layer, x [N, H, W, C], pool=False) -> [N, H', W', C]`, normalised, and pooled if asked."""

Norm = Literal["layer", "batch"]


class BatchNormNetwork(NamedTuple):
    """A network normalised by batch statistics, which are parameters once they are known.

    Attributes:
      init: `(key, x [N, ...]) -> params`, without statistics.
      apply: `(params, x) -> features [N, F]`, by the statistics in params, else by those of x.
      condition: `(params, x, mask [N]) -> (features [N, F], params)`, both by the statistics of the
        real rows of x, which the returned params hold.
      forget: `params -> params` without statistics.
    """

    init: Callable[[Array, Array], list[Layer]]
    apply: Callable[[list[Layer], Array], Array]
    condition: Callable[[list[Layer], Array, Array], tuple[Array, list[Layer]]]
    forget: Callable[[list[Layer]], list[Layer]]


_STATISTICS = ("mean", "variance")


def _conv_init(key: Array, kernel: int, in_channels: int, out_channels: int) -> Layer:
    """He initialisation; the scale and offset of the normalisation travel with the kernel."""
    stddev = (2.0 / (kernel * kernel * in_channels)) ** 0.5
    shape = (kernel, kernel, in_channels, out_channels)
    return {
        "kernel": stddev * jax.random.normal(key, shape),
        "scale": jnp.ones(out_channels),
        "offset": jnp.zeros(out_channels),
    }


def _conv(layer: Layer, x: Array, stride: int = 1) -> Array:
    return task_conv(x, layer["kernel"].astype(x.dtype), (stride, stride), "SAME")


def _layer_norm(layer: Layer, x: Array, pool: bool = False) -> Array:
    """Each image by its own mean and variance over height, width and channels, once pooled."""
    x = _max_pool(x) if pool else x
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    variance = jnp.square(x).mean(axis=(1, 2, 3), keepdims=True) - jnp.square(mean)
    return _scaled(layer, x, mean, variance)


def _batch_norm(layer: Layer, x: Array, pool: bool = False) -> Array:
    """Each channel by the statistics in the layer, else by those of this batch, before pooling."""
    if "mean" not in layer:
        layer = _with_statistics(layer, x, None)
    if pool:
        # To scale up and then pool is to pool and then scale, on a quarter of the numbers; where
        # the scale is negative the greatest becomes the least.
        sign = jax.lax.stop_gradient(jnp.where(layer["scale"] < 0, -1, 1)).astype(x.dtype)
        sign = sign[None, None, None]
        x = _max_pool(x * sign) * sign
    mean, variance = (layer[name].astype(x.dtype)[None, None, None] for name in _STATISTICS)
    return _scaled(layer, x, mean, variance)


def _with_statistics(layer: Layer, x: Array, mask: Array | None) -> Layer:
    """The layer and the mean and variance of each channel over the real rows of x."""
    x = x.astype(layer["scale"].dtype)
    if mask is None:
        mean, square = x.mean(axis=(0, 1, 2)), jnp.square(x).mean(axis=(0, 1, 2))
    else:
        # Over places first: the mask then weighs [N, C] numbers, not all of x.
        share = mask.astype(x.dtype) / jnp.maximum(mask.sum(), 1).astype(x.dtype)
        mean, square = share @ x.mean(axis=(1, 2)), share @ jnp.square(x).mean(axis=(1, 2))
    return layer | {"mean": mean, "variance": square - jnp.square(mean)}


def _scaled(layer: Layer, x: Array, mean: Array, variance: Array) -> Array:
    """Normalised, then a learned scale and offset."""
    scale, offset = (layer[name].astype(x.dtype)[None, None, None] for name in ("scale", "offset"))
    return (x - mean) * (jax.lax.rsqrt(jnp.maximum(variance, 0.0) + 1e-5) * scale) + offset


def _max_pool(x: Array) -> Array:
    """2x2 max-pool by slices: on CPU the gradient is 20 times faster than reduce_window's."""
    n, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c)
    rows = jnp.maximum(x[:, :, 0], x[:, :, 1])
    return jnp.maximum(rows[:, :, :, 0], rows[:, :, :, 1])


def _encoder(
    norm: Norm,
    shapes: Callable[[int], Sequence[tuple[int, int, int]]],
    forward: Callable[[list[Layer], Array, Normalise], Array],
) -> PairNetwork | BatchNormNetwork:
    """A network from its kernel shapes (given the input channels) and its forward function."""
    if norm not in ("layer", "batch"):
        raise ValueError(f"Encoders are normalised by 'layer' or 'batch', got norm={norm!r}.")

    def init(key: Array, x: Array) -> list[Layer]:
        kernels = shapes(x.shape[-1])
        keys = jax.random.split(key, len(kernels))
        return [_conv_init(k, *shape) for k, shape in zip(keys, kernels, strict=True)]

    def apply(params: list[Layer], x: Array) -> Array:
        if x.ndim != 4:
            raise ValueError(f"A convolutional encoder reads images [N, H, W, C], got {x.shape}.")
        features = forward(params, x, _layer_norm if norm == "layer" else _batch_norm)
        if not features.size:
            raise ValueError(f"Images {x.shape} are too small: pooling leaves nothing of them.")
        return features.reshape(len(features), -1)

    def condition(params: list[Layer], x: Array, mask: Array) -> tuple[Array, list[Layer]]:
        measured = []

        def measure(layer: Layer, x: Array, pool: bool = False) -> Array:
            measured.append(_with_statistics(layer, x, mask))
            return _batch_norm(measured[-1], x, pool)

        features = forward(forget(params), x, measure)
        return features.reshape(len(features), -1), measured

    def forget(params: list[Layer]) -> list[Layer]:
        return [{k: v for k, v in layer.items() if k not in _STATISTICS} for layer in params]

    if norm == "layer":
        return PairNetwork(init, apply)
    return BatchNormNetwork(init, apply, condition, forget)


def conv4(width: int = 64, *, norm: Norm = "layer") -> PairNetwork | BatchNormNetwork:
    """The four-block encoder of the few-shot literature: conv 3x3, normalise, relu, pool.

    28x28 images give `[N, width]`. Layer normalisation is of what pooling leaves, a quarter of the
    numbers; batch statistics are of all, as in the papers.

    References:
      Vinyals et al., Matching networks for one shot learning, arXiv:1606.04080.
    """
    check_positive(width=width)

    def shapes(channels: int) -> list[tuple[int, int, int]]:
        return [(3, channels, width)] + [(3, width, width)] * 3

    def forward(params: list[Layer], x: Array, normalise: Normalise) -> Array:
        for layer in params:
            x = jax.nn.relu(normalise(layer, _conv(layer, x), pool=True))
        return x

    return _encoder(norm, shapes, forward)


def residual(width: int = 32, *, norm: Norm = "layer") -> PairNetwork | BatchNormNetwork:
    """A small residual encoder: a strided 5x5 stem, then one residual block at each of 3 scales.

    28x28 images give `[N, 36 * width]`. The three scales have `width`, `3 * width` and
    `4 * width` channels: rich where the maps are small and cheap. The last map keeps its places,
    since where a stroke is tells characters apart, and is not rectified, since cosines of signed
    features spread wider. At width 32 it costs about as much as `conv4(64)`, whose first layer
    works at full resolution, and holds four times the parameters.

    References:
      He et al., Deep residual learning for image recognition, arXiv:1512.03385.
    """
    check_positive(width=width)
    first, second, third = width, 3 * width, 4 * width

    def shapes(channels: int) -> list[tuple[int, int, int]]:
        stem_and_block = [(5, channels, first), (3, first, first), (3, first, first)]
        middle = [(3, first, second), (3, second, second), (1, first, second)]
        return stem_and_block + middle + [(3, second, third), (3, third, third), (1, second, third)]

    def block(layers: list[Layer], x: Array, normalise: Normalise) -> Array:
        inner, outer, *shortcut = layers
        y = jax.nn.relu(normalise(inner, _conv(inner, x)))
        y = normalise(outer, _conv(outer, y))
        for layer in shortcut:
            x = normalise(layer, _conv(layer, x))
        return y + x

    def forward(params: list[Layer], x: Array, normalise: Normalise) -> Array:
        x = jax.nn.relu(normalise(params[0], _conv(params[0], x, stride=2)))
        x = _max_pool(jax.nn.relu(block(params[1:3], x, normalise)))
        x = _max_pool(jax.nn.relu(block(params[3:6], x, normalise)))
        return block(params[6:], x, normalise)

    return _encoder(norm, shapes, forward)
