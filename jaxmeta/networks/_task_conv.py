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

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from jaxmeta._jax_compat import (
    Primitive,
    define_batching,
    define_bilinear,
    define_lowering,
    varying_axes,
)
from jaxmeta._precision import as_one_dtype
from jaxmeta.networks._conv_lowerings import (
    Formulation,
    Geometry,
    channels_last,
    conv_by,
    dilated,
    kernel_grad_by,
    outputs_of,
    transposed,
)
from jaxmeta.networks._formulations import Operation, choose, table
from jaxmeta.types import Array

_CHOICES = (*get_args(Formulation), "auto")


def task_conv(
    x: Array,
    kernel: Array,
    window_strides: Sequence[int] | None = None,
    padding: str | Sequence[tuple[int, int]] = "SAME",
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    *,
    formulation: Formulation | Literal["auto"] | None = None,
) -> Array:
    """`jax.lax.conv_general_dilated` for channels-last images, fast under vmap over kernels.

    Any order and mix of forward and reverse differentiation, under `vmap`, `scan`, `jit`,
    `checkpoint`, `pmap`, `shard_map` and sharding. Its signature makes it fit linen:
    `nn.Conv(64, (3, 3), conv_general_dilated=task_conv)`.

    Args:
      x: `[N, H, W, C]`, or another number of spatial axes.
      kernel: `[kh, kw, C, F]`.
      window_strides: per spatial axis; one by default.
      padding: `"SAME"`, `"VALID"` or pairs per spatial axis.
      lhs_dilation: of x, per spatial axis.
      rhs_dilation: of the kernel, per spatial axis.
      dimension_numbers: channels-last, which is the default; there for linen's sake, as are the
        three that follow, at their defaults.
      feature_group_count: 1.
      precision: None.
      preferred_element_type: None; the result has the dtype of its operands, promoted.
      formulation: how to compute many tasks' kernels: `"loop"`, `"grouped"` or `"patches"`; by
        default what measured best on a CPU or a GPU, and groups elsewhere. `"auto"` measures each
        new shape on the default device while it is compiled, and keeps the result in a file.

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
    if dimension_numbers not in (None, channels_last(rank)):
        raise ValueError(f"task_conv reads channels-last images, got {dimension_numbers}.")
    if formulation not in (None, *_CHOICES):
        raise ValueError(f"formulation is one of {_CHOICES}, got {formulation!r}.")
    del preferred_element_type
    ones = (1,) * rank
    strides = tuple(window_strides or ones)
    dilations = tuple(lhs_dilation or ones), tuple(rhs_dilation or ones)
    if isinstance(padding, str):
        extents = map(dilated, x.shape[1:-1], dilations[0])
        windows = map(dilated, kernel.shape[:-2], dilations[1])
        padding = jax.lax.padtype_to_pads(list(extents), list(windows), strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    geometry = Geometry(strides, pads, *dilations, formulation)
    if any(len(setting) != rank for setting in geometry[:4]):
        raise ValueError(f"task_conv needs a setting for each of {rank} axes, got {geometry}.")
    x, kernel = _vary_alike(*as_one_dtype(x, kernel))
    return _conv(x[None], kernel[None], geometry)[0]


def _vary_alike(*arrays: Array) -> list[Array]:
    """Under `shard_map`: all marked as differing over the same mesh axes."""
    axes = [varying_axes(array) for array in arrays]
    everywhere = frozenset().union(*axes)
    return [
        jax.lax.pcast(array, tuple(everywhere - own), to="varying") if everywhere - own else array
        for array, own in zip(arrays, axes, strict=True)
    ]


def _flipped(kernel: Array) -> Array:
    return jnp.swapaxes(jnp.flip(kernel, range(1, kernel.ndim - 2)), -1, -2)


# The two primitives: x [B, N, *spatial, C], kernel [B, *window, C, F], y [B, N, *spatial', F]

_conv_p, _kernel_grad_p = Primitive("task_conv"), Primitive("task_conv_kernel_grad")


def _conv(x: Array, kernel: Array, geometry: Geometry) -> Array:
    return _conv_p.bind(x, kernel, geometry=geometry)


def _kernel_grad(x: Array, y: Array, geometry: Geometry, window: tuple[int, ...]) -> Array:
    return _kernel_grad_p.bind(x, y, geometry=geometry, window=window)


@_conv_p.def_abstract_eval
def _conv_shape(x, kernel, *, geometry):
    outputs = outputs_of(x.shape[2:-1], kernel.shape[1:-2], geometry)
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


def _back(y: Array, shape: tuple[int, ...], kernel: Array, geometry: Geometry) -> Array:
    """From results to images of `shape`."""
    sizes = shape[2:-1], kernel.shape[1:-2], y.shape[2:-1]
    return _conv(y, _flipped(kernel), transposed(*sizes, geometry))


define_bilinear(_conv_p, _conv_transpose_x, _conv_transpose_kernel)
define_bilinear(_kernel_grad_p, _kernel_grad_transpose_x, _kernel_grad_transpose_y)


def _batched(primitive: Primitive, *alone: tuple[int, int]):
    """A batching rule: the new axis folds into tasks, or into an axis that one operand alone has.

    `alone[i]` are that axis of operand i and the one of the result that takes it up.
    """

    def rule(operands, dims, **settings):
        operands, where = list(operands), 0
        if None in dims:
            mapped = dims.index(None) ^ 1
            at, where = alone[mapped]
            size = operands[mapped].shape[dims[mapped]]
            operands[mapped] = _fold(operands[mapped], dims[mapped], at)
        else:
            size = operands[0].shape[dims[0]]
            operands = [_fold(operand, dim, 0) for operand, dim in zip(operands, dims, strict=True)]
        result = primitive.bind(*operands, **settings)
        where %= result.ndim
        before, extent, after = result.shape[:where], result.shape[where], result.shape[where + 1 :]
        return result.reshape(*before, size, extent // size, *after), where

    return rule


def _fold(operand: Array, dim: int, axis: int) -> Array:
    axis %= operand.ndim - 1
    operand = jnp.moveaxis(operand, dim, axis)
    size = operand.shape[axis] * operand.shape[axis + 1]
    return operand.reshape(*operand.shape[:axis], size, *operand.shape[axis + 2 :])


# x alone: images of conv, channels of kernel_grad; kernel or y alone: features.
define_batching(_conv_p, _batched(_conv_p, (1, 1), (-1, -1)))
define_batching(_kernel_grad_p, _batched(_kernel_grad_p, (-1, -2), (-1, -1)))


# By platform


def _lower(primitive: Primitive, formulate: Callable, operation: Operation, platform) -> None:
    def compute(first: Array, second: Array, *, geometry: Geometry, **settings: Any) -> Array:
        def by(formulation: Formulation, first: Array, second: Array) -> Array:
            return formulate(formulation, first, second, geometry, **settings)

        chosen = choose(
            geometry.formulation, operation, by, first, second, platform, (geometry[:4], settings)
        )
        return by(chosen, first, second)

    define_lowering(primitive, compute, platform)


for _platform in (None, *(name for name in table() if name != "any")):
    _lower(_conv_p, conv_by, "conv", _platform)
    _lower(_kernel_grad_p, kernel_grad_by, "kernel_grad", _platform)
_conv_p.def_impl(jax.jit(_conv_p.bind, static_argnames=("geometry",)))
_kernel_grad_p.def_impl(jax.jit(_kernel_grad_p.bind, static_argnames=("geometry", "window")))
