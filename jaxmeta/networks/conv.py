"""Convolutional encoders for small images, `x [N, H, W, C] -> [N, F]`, over plain pytrees.

Each image is normalised by its own statistics, so an embedding depends on nothing but its image:
the learners built on these encoders are inductive by construction.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxmeta.networks.base import PairNetwork
from jaxmeta.types import Array
from jaxmeta.validation import check_positive

Layer = dict[str, Array]
_AXES = ("NHWC", "HWIO", "NHWC")


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
    kernel = layer["kernel"].astype(x.dtype)
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=_AXES
    )


def _normalise(layer: Layer, x: Array) -> Array:
    """Layer norm of each image over height, width and channels, then a learned scale and offset."""
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    variance = jnp.square(x).mean(axis=(1, 2, 3), keepdims=True) - jnp.square(mean)
    normal = (x - mean) * jax.lax.rsqrt(jnp.maximum(variance, 0.0) + 1e-5)
    scale, offset = (layer[name].astype(x.dtype)[None, None, None] for name in ("scale", "offset"))
    return normal * scale + offset


def _max_pool(x: Array) -> Array:
    """2x2 max-pool by slices: on CPU the gradient is 20 times faster than reduce_window's."""
    n, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c)
    rows = jnp.maximum(x[:, :, 0], x[:, :, 1])
    return jnp.maximum(rows[:, :, :, 0], rows[:, :, :, 1])


def _encoder(
    shapes: Callable[[int], Sequence[tuple[int, int, int]]], forward: Callable
) -> PairNetwork:
    """A network from its kernel shapes (given the input channels) and its forward function."""

    def init(key: Array, x: Array) -> list[Layer]:
        kernels = shapes(x.shape[-1])
        keys = jax.random.split(key, len(kernels))
        return [_conv_init(k, *shape) for k, shape in zip(keys, kernels, strict=True)]

    def apply(params: list[Layer], x: Array) -> Array:
        if x.ndim != 4:
            raise ValueError(f"A convolutional encoder reads images [N, H, W, C], got {x.shape}.")
        features = forward(params, x)
        if not features.size:
            raise ValueError(f"Images {x.shape} are too small: pooling leaves nothing of them.")
        return features.reshape(len(features), -1)

    return PairNetwork(init, apply)


def conv4(width: int = 64) -> PairNetwork:
    """The four-block encoder of the few-shot literature: conv 3x3, pool, normalise, relu.

    28x28 images give `[N, width]`. The pool goes before the normalisation, which then touches a
    quarter of the numbers.

    References:
      Vinyals et al., Matching networks for one shot learning, arXiv:1606.04080.
    """
    check_positive(width=width)

    def forward(params: list[Layer], x: Array) -> Array:
        for layer in params:
            x = jax.nn.relu(_normalise(layer, _max_pool(_conv(layer, x))))
        return x

    return _encoder(lambda channels: [(3, channels, width)] + [(3, width, width)] * 3, forward)


def residual(width: int = 32) -> PairNetwork:
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

    def block(layers: list[Layer], x: Array) -> Array:
        inner, outer, *shortcut = layers
        y = jax.nn.relu(_normalise(inner, _conv(inner, x)))
        y = _normalise(outer, _conv(outer, y))
        for layer in shortcut:
            x = _normalise(layer, _conv(layer, x))
        return y + x

    def forward(params: list[Layer], x: Array) -> Array:
        x = jax.nn.relu(_normalise(params[0], _conv(params[0], x, stride=2)))
        x = _max_pool(jax.nn.relu(block(params[1:3], x)))
        x = _max_pool(jax.nn.relu(block(params[3:6], x)))
        return block(params[6:], x)

    return _encoder(shapes, forward)
