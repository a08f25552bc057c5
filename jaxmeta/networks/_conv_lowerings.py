"""How to compute the convolutions of several tasks, each by a kernel of its own.

Operands carry an axis of tasks first: x `[B, N, *spatial, C]`, kernel `[B, *window, C, F]`,
y `[B, N, *spatial', F]`. See `task_conv`.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.types import Array

Formulation = Literal["loop", "grouped", "patches"]
"""How to compute several tasks' convolutions: one at a time, as groups of one convolution, or as
one batched matrix product of patches."""


class Geometry(NamedTuple):
    """Where the windows lie; per spatial axis, and hashable."""

    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    input_dilation: tuple[int, ...]
    kernel_dilation: tuple[int, ...]
    formulation: Formulation | Literal["auto"] | None


def channels_last(rank: int) -> jax.lax.ConvDimensionNumbers:
    images = (0, rank + 1, *range(1, rank + 1))
    return jax.lax.ConvDimensionNumbers(images, (rank + 1, rank, *range(rank)), images)


def dilated(extent: int, dilation: int) -> int:
    return (extent - 1) * dilation + 1


def outputs_of(
    extents: Sequence[int], window: Sequence[int], geometry: Geometry
) -> tuple[int, ...]:
    """Spatial extents of a convolution's result."""
    strides, padding, input_dilation, kernel_dilation, _ = geometry
    return tuple(
        max(0, (dilated(n, di) + sum(pad) - dilated(k, dk)) // stride + 1)
        for n, k, stride, pad, di, dk in zip(
            extents, window, strides, padding, input_dilation, kernel_dilation, strict=True
        )
    )


def transposed(
    extents: Sequence[int], window: Sequence[int], outputs: Sequence[int], geometry: Geometry
) -> Geometry:
    """The geometry that leads from a cotangent back to x, of spatial `extents`."""
    strides, padding, input_dilation, kernel_dilation, formulation = geometry
    before = [
        dilated(k, d) - 1 - low
        for k, d, (low, _) in zip(window, kernel_dilation, padding, strict=True)
    ]
    after = [
        dilated(n, di) + dilated(k, dk) - 1 - dilated(m, stride) - low
        for n, k, m, stride, di, dk, low in zip(
            extents, window, outputs, strides, input_dilation, kernel_dilation, before, strict=True
        )
    ]
    pads = tuple(zip(before, after, strict=True))
    return Geometry(input_dilation, pads, strides, kernel_dilation, formulation)


def conv_by(formulation: Formulation, x: Array, kernel: Array, geometry: Geometry) -> Array:
    num_tasks, rank = len(x), x.ndim - 3
    if formulation == "patches":
        features = _patches(x, kernel.shape[1:-2], geometry)
        flat = kernel.reshape(num_tasks, -1, kernel.shape[-1])
        rows = features.reshape(num_tasks, math.prod(features.shape[1:-1]), flat.shape[1])
        return (rows @ flat).reshape(*features.shape[:-1], flat.shape[-1])
    if num_tasks > 1 and formulation == "loop":
        return jax.lax.map(lambda pair: _plain_conv(pair[0], pair[1], geometry), (x, kernel))
    y = _plain_conv(_channels_of_tasks(x), _channels_of_tasks(kernel), geometry, num_tasks)
    return jnp.moveaxis(y.reshape(*y.shape[:-1], num_tasks, kernel.shape[-1]), rank + 1, 0)


def kernel_grad_by(
    formulation: Formulation, x: Array, y: Array, geometry: Geometry, window: tuple[int, ...]
) -> Array:
    num_tasks = len(x)
    if formulation == "patches":
        count = math.prod(y.shape[1:-1])
        rows = _patches(x, window, geometry).reshape(
            num_tasks, count, math.prod(window) * x.shape[-1]
        )
        flat = jnp.swapaxes(rows, 1, 2) @ y.reshape(num_tasks, count, y.shape[-1])
        return flat.reshape(num_tasks, *window, x.shape[-1], y.shape[-1])
    if num_tasks > 1 and formulation == "loop":
        one = lambda pair: _plain_kernel_grad(pair[0], pair[1], geometry, window)  # noqa: E731
        return jax.lax.map(one, (x, y))
    grad = _plain_kernel_grad(
        _channels_of_tasks(x), _channels_of_tasks(y), geometry, window, num_tasks
    )
    return jnp.moveaxis(grad.reshape(*grad.shape[:-1], num_tasks, y.shape[-1]), -2, 0)


def _channels_of_tasks(array: Array) -> Array:
    """`[B, ..., C] -> [..., B * C]`."""
    array = jnp.moveaxis(array, 0, -2)
    return array.reshape(*array.shape[:-2], array.shape[-2] * array.shape[-1])


def _patches(x: Array, window: Sequence[int], geometry: Geometry) -> Array:
    """`[B, N, *spatial', K * C]`: what the window of each output sees."""
    strides, padding, input_dilation, kernel_dilation, _ = geometry
    outputs = outputs_of(x.shape[2:-1], window, geometry)
    pads = [(low, high, d - 1) for (low, high), d in zip(padding, input_dilation, strict=True)]
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (0, 0, 0), *pads, (0, 0, 0)])
    seen = []
    for place in itertools.product(*map(range, window)):
        starts = [i * d for i, d in zip(place, kernel_dilation, strict=True)]
        along = [
            slice(start, start + dilated(m, stride), stride)
            for start, m, stride in zip(starts, outputs, strides, strict=True)
        ]
        seen.append(x[:, :, *along])
    return jnp.concatenate(seen, axis=-1)


def _plain_conv(x: Array, kernel: Array, geometry: Geometry, groups: int = 1) -> Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        geometry.strides,
        geometry.padding,
        geometry.input_dilation,
        geometry.kernel_dilation,
        channels_last(x.ndim - 2),
        feature_group_count=groups,
    )


def _plain_kernel_grad(
    x: Array, y: Array, geometry: Geometry, window: tuple[int, ...], groups: int = 1
) -> Array:
    """A forward convolution of the channels of x, with images as channels and y as the kernel."""
    strides, padding, input_dilation, kernel_dilation, _ = geometry
    sizes = x.shape[1:-1], y.shape[1:-1]
    pads = [
        (low, dilated(m, stride) + (k - 1) * dk - dilated(n, di) - low)
        for n, m, k, (low, _), stride, di, dk in zip(
            *sizes, window, padding, strides, input_dilation, kernel_dilation, strict=True
        )
    ]
    # Without the barrier XLA computes what x is made of once more inside the strided copy.
    x, y = jax.lax.optimization_barrier((x, y))
    grad = jax.lax.conv_general_dilated(
        jnp.swapaxes(x, 0, -1),
        jnp.moveaxis(y, 0, -2),
        kernel_dilation,
        pads,
        input_dilation,
        strides,
        channels_last(x.ndim - 2),
        batch_group_count=groups,
    )
    return jnp.moveaxis(grad, 0, -2)
