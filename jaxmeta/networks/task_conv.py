"""A convolution that stays fast when every task has its own kernel, however it is differentiated.

Autodiff of a vmapped `jax.lax.conv_general_dilated` asks for grouped convolutions and for kernels
as large as the image, which XLA:CPU runs ten to a hundred times slower than plain ones. Here the
convolution and its kernel gradient are two bilinear primitives, each the other's transpose:

    y = conv(x, k)      conv^T in x = conv of the cotangent by k flipped      conv^T in k = grad
    g = grad(x, c)      grad^T in x = conv of c by the cotangent flipped      grad^T in c = conv

so derivatives of any order and mix are these two again, with kernels of the size of k. Both carry
an axis of tasks: under vmap an operand that all share folds the new axis into images or channels
(one large convolution), and two of their own fold it into tasks.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxmeta.types import Array

Formulation = Literal["loop", "grouped", "patches"]
"""How to compute several tasks' convolutions: one at a time, as groups of one convolution, or as
one batched matrix product of patches."""


class _Geometry(NamedTuple):
    """Where the windows lie; per spatial axis, and hashable."""

    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    input_dilation: tuple[int, ...]
    kernel_dilation: tuple[int, ...]
    formulation: Formulation | None


def task_conv(
    x: Array,
    kernel: Array,
    window_strides: Sequence[int] = (1, 1),
    padding: str | Sequence[tuple[int, int]] = "SAME",
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    *,
    formulation: Formulation | None = None,
) -> Array:
    """`jax.lax.conv_general_dilated` for channels-last images, fast under vmap over kernels.

    Any order and mix of forward and reverse differentiation, under `vmap`, `scan`, `jit`,
    `checkpoint`, `pmap`, `shard_map` and sharding. Its signature makes it fit linen:
    `nn.Conv(64, (3, 3), conv_general_dilated=task_conv)`.

    Args:
      x: `[N, H, W, C]`, or another number of spatial axes.
      kernel: `[kh, kw, C, F]`.
      window_strides: per spatial axis.
      padding: `"SAME"`, `"VALID"` or pairs per spatial axis.
      lhs_dilation: of x, per spatial axis.
      rhs_dilation: of the kernel, per spatial axis.
      dimension_numbers: channels-last, which is the default; there for linen's sake, as are the
        three that follow, at their defaults.
      feature_group_count: 1.
      precision: None.
      preferred_element_type: None; the result has the dtype of its operands, promoted.
      formulation: how to compute many tasks' kernels; by default what measured best on the
        platform (BUILD_NOTES.md).

    Returns:
      `[N, H', W', F]`.

    Raises:
      ValueError: if the shapes do not fit, or an argument asks for what there is not.
    """
    rank = x.ndim - 2
    if rank < 1 or kernel.ndim != x.ndim or x.shape[-1] != kernel.shape[-2]:
        raise ValueError(
            "task_conv reads x [N, *spatial, C] and a kernel [*window, C, F], got "
            f"{x.shape} and {kernel.shape}."
        )
    if feature_group_count != 1 or precision is not None:
        raise ValueError(
            "task_conv convolves in one group at the default precision, got "
            f"feature_group_count={feature_group_count}, precision={precision}."
        )
    if dimension_numbers not in (None, _channels_last(rank)):
        raise ValueError(f"task_conv reads channels-last images, got {dimension_numbers}.")
    if formulation not in (None, "loop", "grouped", "patches"):
        raise ValueError(f"formulation is 'loop', 'grouped' or 'patches', got {formulation!r}.")
    del preferred_element_type
    ones = (1,) * rank
    strides = tuple(window_strides or ones)
    dilations = tuple(lhs_dilation or ones), tuple(rhs_dilation or ones)
    if isinstance(padding, str):
        extents = map(_dilated, x.shape[1:-1], dilations[0])
        windows = map(_dilated, kernel.shape[:-2], dilations[1])
        padding = jax.lax.padtype_to_pads(list(extents), list(windows), strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    geometry = _Geometry(strides, pads, *dilations, formulation)
    if any(len(setting) != rank for setting in geometry[:4]):
        raise ValueError(f"task_conv needs a setting for each of {rank} axes, got {geometry}.")
    dtype = jnp.promote_types(x.dtype, kernel.dtype)
    x, kernel = _vary_alike(x.astype(dtype), kernel.astype(dtype))
    return _conv(x[None], kernel[None], geometry)[0]


def _vary_alike(*arrays: Array) -> list[Array]:
    """Under `shard_map`: all marked as differing over the same mesh axes."""
    axes = [jax.typeof(array).manual_axis_type.varying for array in arrays]
    everywhere = frozenset().union(*axes)
    return [
        jax.lax.pcast(array, tuple(everywhere - own), to="varying") if everywhere - own else array
        for array, own in zip(arrays, axes, strict=True)
    ]


# Geometry


def _channels_last(rank: int) -> jax.lax.ConvDimensionNumbers:
    images = (0, rank + 1, *range(1, rank + 1))
    return jax.lax.ConvDimensionNumbers(images, (rank + 1, rank, *range(rank)), images)


def _dilated(extent: int, dilation: int) -> int:
    return (extent - 1) * dilation + 1


def _outputs(extents: Sequence[int], window: Sequence[int], geometry: _Geometry) -> tuple[int, ...]:
    """Spatial extents of a convolution's result."""
    strides, padding, input_dilation, kernel_dilation, _ = geometry
    return tuple(
        max(0, (_dilated(n, di) + sum(pad) - _dilated(k, dk)) // stride + 1)
        for n, k, stride, pad, di, dk in zip(
            extents, window, strides, padding, input_dilation, kernel_dilation, strict=True
        )
    )


def _transposed(
    extents: Sequence[int], window: Sequence[int], outputs: Sequence[int], geometry: _Geometry
) -> _Geometry:
    """The geometry that leads from a cotangent back to x, of spatial `extents`."""
    strides, padding, input_dilation, kernel_dilation, formulation = geometry
    before = [
        _dilated(k, d) - 1 - low
        for k, d, (low, _) in zip(window, kernel_dilation, padding, strict=True)
    ]
    after = [
        _dilated(n, di) + _dilated(k, dk) - 1 - _dilated(m, stride) - low
        for n, k, m, stride, di, dk, low in zip(
            extents, window, outputs, strides, input_dilation, kernel_dilation, before, strict=True
        )
    ]
    pads = tuple(zip(before, after, strict=True))
    return _Geometry(input_dilation, pads, strides, kernel_dilation, formulation)


def _flipped(kernel: Array) -> Array:
    return jnp.swapaxes(jnp.flip(kernel, range(1, kernel.ndim - 2)), -1, -2)


# The two primitives: x [B, N, *spatial, C], kernel [B, *window, C, F], y [B, N, *spatial', F]

_conv_p, _kernel_grad_p = Primitive("task_conv"), Primitive("task_conv_kernel_grad")


def _conv(x: Array, kernel: Array, geometry: _Geometry) -> Array:
    return _conv_p.bind(x, kernel, geometry=geometry)


def _kernel_grad(x: Array, y: Array, geometry: _Geometry, window: tuple[int, ...]) -> Array:
    return _kernel_grad_p.bind(x, y, geometry=geometry, window=window)


@_conv_p.def_abstract_eval
def _conv_shape(x, kernel, *, geometry):
    outputs = _outputs(x.shape[2:-1], kernel.shape[1:-2], geometry)
    return x.update(shape=(*x.shape[:2], *outputs, kernel.shape[-1]), weak_type=False)


@_kernel_grad_p.def_abstract_eval
def _kernel_grad_shape(x, y, *, geometry, window):
    del geometry
    return x.update(shape=(x.shape[0], *window, x.shape[-1], y.shape[-1]), weak_type=False)


def _conv_transpose_x(cotangent, x, kernel, *, geometry):
    return _back(cotangent, x.aval.shape, kernel, geometry)


def _conv_transpose_kernel(cotangent, x, kernel, *, geometry):
    return _kernel_grad(x, cotangent, geometry, kernel.aval.shape[1:-2])


def _kernel_grad_transpose_x(cotangent, x, y, *, geometry, window):
    del window
    return _back(y, x.aval.shape, cotangent, geometry)


def _kernel_grad_transpose_y(cotangent, x, y, *, geometry, window):
    del y, window
    return _conv(x, cotangent, geometry)


def _back(y: Array, shape: tuple[int, ...], kernel: Array, geometry: _Geometry) -> Array:
    """From results to images of `shape`."""
    sizes = shape[2:-1], kernel.shape[1:-2], y.shape[2:-1]
    return _conv(y, _flipped(kernel), _transposed(*sizes, geometry))


ad.defbilinear(_conv_p, _conv_transpose_x, _conv_transpose_kernel)
ad.defbilinear(_kernel_grad_p, _kernel_grad_transpose_x, _kernel_grad_transpose_y)


def _batched(primitive: Primitive, shared_first: int, shared_second: int):
    """A batching rule: the new axis folds into tasks, or into an axis that one operand alone has.

    `shared_first` is the axis of the result into which it folds if all share the first operand,
    `shared_second` likewise.
    """

    def rule(operands, dims, **settings):
        first, second = dims
        where = 0 if None not in dims else shared_second if second is None else shared_first
        size = operands[first is None].shape[first if second is None else second]
        folded = [
            operand if dim is None else _fold(operand, dim, _own_axis(primitive, i, None in dims))
            for i, (operand, dim) in enumerate(zip(operands, dims, strict=True))
        ]
        result = primitive.bind(*folded, **settings)
        where %= result.ndim
        shape = *result.shape[:where], size, result.shape[where] // size, *result.shape[where + 1 :]
        return result.reshape(shape), where

    return rule


def _own_axis(primitive: Primitive, operand: int, alone: bool) -> int:
    """The axis of an operand into which one more axis of its own folds."""
    if not alone:
        return 0
    return 1 if primitive is _conv_p and operand == 0 else -1


def _fold(operand: Array, dim: int, axis: int) -> Array:
    axis %= operand.ndim - 1
    operand = jnp.moveaxis(operand, dim, axis)
    return operand.reshape(*operand.shape[:axis], -1, *operand.shape[axis + 2 :])


batching.primitive_batchers[_conv_p] = _batched(_conv_p, -1, 1)
batching.primitive_batchers[_kernel_grad_p] = _batched(_kernel_grad_p, -1, -2)


# Formulations


def _conv_by(formulation: Formulation, x: Array, kernel: Array, geometry: _Geometry) -> Array:
    num_tasks, rank = len(x), x.ndim - 3
    if formulation == "patches":
        features = _patches(x, kernel.shape[1:-2], geometry)
        flat = kernel.reshape(num_tasks, -1, kernel.shape[-1])
        rows = features.reshape(num_tasks, -1, flat.shape[1])
        return (rows @ flat).reshape(*features.shape[:-1], flat.shape[-1])
    if num_tasks > 1 and formulation == "loop":
        return jax.lax.map(lambda pair: _plain_conv(pair[0], pair[1], geometry), (x, kernel))
    y = _plain_conv(_channels_of_tasks(x), _channels_of_tasks(kernel), geometry, num_tasks)
    return jnp.moveaxis(y.reshape(*y.shape[:-1], num_tasks, -1), rank + 1, 0)


def _kernel_grad_by(
    formulation: Formulation, x: Array, y: Array, geometry: _Geometry, window: tuple[int, ...]
) -> Array:
    num_tasks = len(x)
    if formulation == "patches":
        rows = _patches(x, window, geometry).reshape(num_tasks, -1, math.prod(window) * x.shape[-1])
        flat = jnp.swapaxes(rows, 1, 2) @ y.reshape(num_tasks, -1, y.shape[-1])
        return flat.reshape(num_tasks, *window, x.shape[-1], -1)
    if num_tasks > 1 and formulation == "loop":
        one = lambda pair: _plain_kernel_grad(pair[0], pair[1], geometry, window)  # noqa: E731
        return jax.lax.map(one, (x, y))
    grad = _plain_kernel_grad(
        _channels_of_tasks(x), _channels_of_tasks(y), geometry, window, num_tasks
    )
    return jnp.moveaxis(grad.reshape(*grad.shape[:-1], num_tasks, -1), -2, 0)


def _channels_of_tasks(array: Array) -> Array:
    """`[B, ..., C] -> [..., B * C]`."""
    array = jnp.moveaxis(array, 0, -2)
    return array.reshape(*array.shape[:-2], -1)


def _patches(x: Array, window: Sequence[int], geometry: _Geometry) -> Array:
    """`[B, N, *spatial', K * C]`: what the window of each output sees."""
    strides, padding, input_dilation, kernel_dilation, _ = geometry
    outputs = _outputs(x.shape[2:-1], window, geometry)
    pads = [(low, high, d - 1) for (low, high), d in zip(padding, input_dilation, strict=True)]
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), (0, 0, 0), *pads, (0, 0, 0)])
    seen = []
    for place in itertools.product(*map(range, window)):
        starts = [i * d for i, d in zip(place, kernel_dilation, strict=True)]
        along = [
            slice(start, start + _dilated(m, stride), stride)
            for start, m, stride in zip(starts, outputs, strides, strict=True)
        ]
        seen.append(x[:, :, *along])
    return jnp.concatenate(seen, axis=-1)


def _plain_conv(x: Array, kernel: Array, geometry: _Geometry, groups: int = 1) -> Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        geometry.strides,
        geometry.padding,
        geometry.input_dilation,
        geometry.kernel_dilation,
        _channels_last(x.ndim - 2),
        feature_group_count=groups,
    )


def _plain_kernel_grad(
    x: Array, y: Array, geometry: _Geometry, window: tuple[int, ...], groups: int = 1
) -> Array:
    """A forward convolution of the channels of x, with images as channels and y as the kernel."""
    strides, padding, input_dilation, kernel_dilation, _ = geometry
    sizes = x.shape[1:-1], y.shape[1:-1]
    pads = [
        (low, _dilated(m, stride) + (k - 1) * dk - _dilated(n, di) - low)
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
        _channels_last(x.ndim - 2),
        batch_group_count=groups,
    )
    return jnp.moveaxis(grad, 0, -2)


def _lower(primitive: Primitive, formulate, choose, platform: str | None) -> None:
    def compute(first: Array, second: Array, *, geometry: _Geometry, **settings) -> Array:
        formulation = geometry.formulation or choose(first, second)
        return formulate(formulation, first, second, geometry, **settings)

    rule = mlir.lower_fun(compute, multiple_results=False)
    mlir.register_lowering(primitive, rule, platform=platform)


def _conv_on_cpu(x: Array, kernel: Array) -> Formulation:
    return "loop"


def _kernel_grad_on_cpu(x: Array, y: Array) -> Formulation:
    return "patches" if x.shape[-1] < 8 else "loop"


def _elsewhere(first: Array, second: Array) -> Formulation:
    return "grouped"


for _primitive, _formulate, _on_cpu in (
    (_conv_p, _conv_by, _conv_on_cpu),
    (_kernel_grad_p, _kernel_grad_by, _kernel_grad_on_cpu),
):
    _lower(_primitive, _formulate, _elsewhere, None)
    _lower(_primitive, _formulate, _on_cpu, "cpu")
    _settings = ("geometry",) if _primitive is _conv_p else ("geometry", "window")
    _primitive.def_impl(jax.jit(_primitive.bind, static_argnames=_settings))
