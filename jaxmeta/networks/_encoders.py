"""Convolutional encoders for small images, `x [N, H, W, C] -> [N, F]`, over plain pytrees.

By default each image is normalised by its own statistics (`norm="layer"`), so an embedding depends
on nothing but its image: the learners built on these encoders are inductive by construction. With
`norm="batch"` the statistics are those of a batch: of the one that `with_statistics` was shown,
which fixes them, else of whatever batch is being embedded.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from jaxmeta._validation import check_floating, check_positive
from jaxmeta.networks._blocks import (
    Block,
    Layer,
    batch_norm,
    layer_norm,
    max_pool,
    without_statistics,
)
from jaxmeta.networks._core import InitApply, rows_of
from jaxmeta.types import Array

Norm = Literal["layer", "batch"]


def _batch_norm(layer: Layer, x: Array, *, stride: int = 1, pool: bool = False) -> Array:
    return batch_norm(layer, x, stride=stride, pool=pool)[0]


_BLOCKS: dict[Norm, Block] = {"layer": layer_norm, "batch": _batch_norm}


def _conv_init(key: Array, kernel: int, in_channels: int, out_channels: int) -> Layer:
    """He initialisation; the scale and offset of the normalisation travel with the kernel."""
    stddev = (2.0 / (kernel * kernel * in_channels)) ** 0.5
    shape = (kernel, kernel, in_channels, out_channels)
    return {
        "kernel": stddev * jax.random.normal(key, shape),
        "scale": jnp.ones(out_channels),
        "offset": jnp.zeros(out_channels),
    }


def _encoder(
    norm: Norm,
    shapes: Callable[[int], Sequence[tuple[int, int, int]]],
    forward: Callable[[list[Layer], Array, Block], Array],
) -> InitApply:
    """A network from its kernel shapes (given the input channels) and its forward function."""
    if norm not in _BLOCKS:
        raise ValueError(f"Encoders are normalised by 'layer' or 'batch', got norm={norm!r}.")

    def init(key: Array, x: Array) -> list[Layer]:
        kernels = shapes(x.shape[-1])
        keys = jax.random.split(key, len(kernels))
        return [_conv_init(k, *shape) for k, shape in zip(keys, kernels, strict=True)]

    def apply(params: list[Layer], x: Array) -> Array:
        if x.ndim != 4:
            raise ValueError(f"A convolutional encoder reads images [N, H, W, C], got {x.shape}.")
        check_floating(x)
        features = forward(params, x, _BLOCKS[norm])
        if 0 in features.shape[1:]:
            raise ValueError(f"Images {x.shape} are too small: pooling leaves nothing of them.")
        return rows_of(features)

    def with_statistics(params: list[Layer], x: Array, mask: Array) -> tuple[Array, list[Layer]]:
        measured = []

        def measure(layer: Layer, x: Array, *, stride: int = 1, pool: bool = False) -> Array:
            y, known = batch_norm(layer, x, stride=stride, pool=pool, mask=mask)
            measured.append(known)
            return y

        features = forward(without_statistics(params), x, measure)
        return rows_of(features), measured

    if norm == "layer":
        return InitApply(init, apply, takes_integers=False)
    return InitApply(init, apply, with_statistics, without_statistics, takes_integers=False)


def conv4(width: int = 64, *, norm: Norm = "layer") -> InitApply:
    """The four-block encoder of the few-shot literature: conv 3x3, normalise, relu, pool.

    28x28 images give `[N, width]`. Layer normalisation is of what pooling leaves, a quarter of the
    numbers; batch statistics are of all, as in the papers.

    Args:
      width: channels of every block.
      norm: `"layer"` normalises each image by itself; `"batch"` by the statistics of its batch.

    Returns:
      A network of images `[N, height, width, channels]`, 16 x 16 or larger.

    Raises:
      ValueError: if `width` is less than 1, or for another `norm`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxmeta import networks
      >>> network = networks.conv4(4)
      >>> x = jnp.ones((2, 28, 28, 1))
      >>> params = network.init(jax.random.key(0), x)
      >>> network.apply(params, x).shape
      (2, 4)

    References:
      Vinyals et al., Matching networks for one shot learning, arXiv:1606.04080.
    """
    check_positive(width=width)

    def shapes(channels: int) -> list[tuple[int, int, int]]:
        return [(3, channels, width)] + [(3, width, width)] * 3

    def forward(params: list[Layer], x: Array, block: Block) -> Array:
        for layer in params:
            x = jax.nn.relu(block(layer, x, pool=True))
        return x

    return _encoder(norm, shapes, forward)


def residual(width: int = 32, *, norm: Norm = "layer") -> InitApply:
    """A small residual encoder: a strided 5x5 stem, then one residual block at each of 3 scales.

    28x28 images give `[N, 36 * width]`. The three scales have `width`, `3 * width` and
    `4 * width` channels: rich where the maps are small and cheap. The last map keeps its places,
    since where a stroke is tells characters apart, and is not rectified, since cosines of signed
    features spread wider. At width 32 it costs about as much as `conv4(64)`, whose first layer
    works at full resolution, and holds four times the parameters.

    Args:
      width: channels of the largest scale.
      norm: `"layer"` normalises each image by itself; `"batch"` by the statistics of its batch.

    Returns:
      A network of images `[N, height, width, channels]`.

    Raises:
      ValueError: if `width` is less than 1, or for another `norm`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxmeta import networks
      >>> network = networks.residual(4)
      >>> x = jnp.ones((2, 28, 28, 1))
      >>> params = network.init(jax.random.key(0), x)
      >>> network.apply(params, x).shape
      (2, 144)

    References:
      He et al., Deep residual learning for image recognition, arXiv:1512.03385.
    """
    check_positive(width=width)
    first, second, third = width, 3 * width, 4 * width

    def shapes(channels: int) -> list[tuple[int, int, int]]:
        stem_and_block = [(5, channels, first), (3, first, first), (3, first, first)]
        middle = [(3, first, second), (3, second, second), (1, first, second)]
        return stem_and_block + middle + [(3, second, third), (3, third, third), (1, second, third)]

    def residual_block(layers: list[Layer], x: Array, block: Block) -> Array:
        inner, outer, *shortcut = layers
        y = block(outer, jax.nn.relu(block(inner, x)))
        for layer in shortcut:
            x = block(layer, x)
        return y + x

    def forward(params: list[Layer], x: Array, block: Block) -> Array:
        x = jax.nn.relu(block(params[0], x, stride=2))
        x = max_pool(jax.nn.relu(residual_block(params[1:3], x, block)))
        x = max_pool(jax.nn.relu(residual_block(params[3:6], x, block)))
        return residual_block(params[6:], x, block)

    return _encoder(norm, shapes, forward)
