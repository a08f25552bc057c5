"""The operations of programs that NumPy runs: of settings, each gives a function of arrays."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import blas

from jaxmeta._numpy_windows import gather, scatter


def _rsqrt():
    return lambda x: np.reciprocal(np.sqrt(x))


def _logistic():
    return lambda x: np.reciprocal(1 + np.exp(-x))


def _integer_power(exponent: int):
    return np.square if exponent == 2 else lambda x: x**exponent


def _power(dtype: str):
    return lambda x, exponent: np.power(x, exponent, dtype=dtype)


def _cast(dtype: str):
    return lambda x: x.astype(dtype)


def _saturated(dtype: str):
    """To integers as XLA does it: the nearest that there is, and 0 for what is not a number."""
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    return lambda x: np.clip(np.nan_to_num(x.astype(float), nan=0.0), least, most).astype(dtype)


def _broadcast(middle: list[int], shape: list[int]):
    if middle == shape:
        return _reshape(shape)
    return lambda x: np.broadcast_to(x.reshape(middle), shape)


def _reshape(shape: list[int]):
    return lambda x: x.reshape(shape)


def _transpose(axes: list[int]):
    return lambda x: x.transpose(axes)


def _slice(start: list[int], stop: list[int], step: list[int]):
    where = tuple(map(slice, start, stop, step))
    return lambda x: x[where]


def _select():
    return lambda which, first, second: np.where(which, second, first)


def _reduce(by: str, axes: list[int], dtype: str):
    reduce, axis = getattr(np, by).reduce, tuple(axes)
    return lambda x: reduce(x, axis=axis, dtype=dtype)


def _argument(of: str, axis: int, dtype: str):
    find = getattr(np, of)
    return lambda x: find(x, axis=axis).astype(dtype)


def _arange(axis: int, shape: list[int], dtype: str):
    along = [-1 if place == axis else 1 for place in range(len(shape))]
    return lambda: np.broadcast_to(np.arange(shape[axis], dtype=dtype).reshape(along), shape)


def _joined(by: str, axis: int):
    return lambda *arrays: getattr(np, by)(arrays, axis=axis)


def _split(axis: int, ends: list[int]):
    return lambda x: tuple(np.split(x, ends, axis=axis))


def _unstack(axis: int):
    return lambda x: tuple(np.moveaxis(x, axis, 0))


def _pad(widths: list[list[int]]):
    return lambda x, value: np.pad(x, widths, constant_values=value)


def _sort(axis: int):
    def by_the_first(*arrays):
        order = np.argsort(arrays[0], axis=axis, kind="stable")
        return tuple(np.take_along_axis(each, order, axis) for each in arrays)

    return by_the_first


def _clamp():
    return lambda least, x, most: np.minimum(np.maximum(x, least), most)


def _flip(axes: list[int]):
    return lambda x: np.flip(x, tuple(axes))


def _view(dtype: str):
    return lambda x: x.view(dtype)


def _cumulative(by: str, axis: int, reverse: bool):
    accumulate = getattr(np, by).accumulate

    def run(x):
        x = np.flip(x, axis) if reverse else x
        x = accumulate(x, axis=axis, dtype=x.dtype)
        return np.flip(x, axis) if reverse else x

    return run


def _dynamic_slice(sizes: list[int]):
    def cut(x, *starts):
        where = []
        for start, size, extent in zip(starts, sizes, x.shape, strict=True):
            start = min(max(int(start), 0), extent - size)
            where.append(slice(start, start + size))
        return x[tuple(where)]

    return cut


def _contract(left: list[list[int]], right: list[list[int]], shape: list[int]):
    """Sums of products, as one matrix product for each of the batch."""
    first, second = _matrices(*left), _matrices(*right)
    return lambda a, b: (first(a) @ second(b)).reshape(shape)


def _matrices(axes: list[int], shape: list[int]):
    if axes == [*range(len(axes))]:
        return _reshape(shape)
    return lambda x: x.transpose(axes).reshape(shape)


def _cholesky():
    def factor(a):
        try:
            return np.linalg.cholesky(a)
        except np.linalg.LinAlgError:  # One of them: as in JAX, NaN where there is no factor.
            factors = np.full_like(a, np.nan)
            for i in np.ndindex(a.shape[:-2]):
                try:
                    factors[i] = np.linalg.cholesky(a[i])
                except np.linalg.LinAlgError:
                    continue
            return factors

    return factor


def _triangular_solve(left: bool, lower: bool, transpose: bool, unit: bool):
    solvers = {"f": blas.strsm, "d": blas.dtrsm}  # pyrefly: ignore[missing-attribute]
    # BLAS counts by columns: it is given the transposed equation.
    settings = {"side": int(left), "lower": int(not lower)}
    settings |= {"trans_a": int(transpose), "diag": int(unit)}

    def solve(a, b):
        solver, x = solvers[b.dtype.char], np.empty_like(b)
        for i in np.ndindex(a.shape[:-2]):
            x[i] = solver(1.0, a[i].T, b[i].T, **settings).T
        return x

    return solve


_UFUNCS = """
absolute add bitwise_and bitwise_or bitwise_xor ceil cos cosh divide equal exp exp2 expm1 floor fmod
greater greater_equal invert isfinite left_shift less less_equal log log1p log2 maximum minimum
multiply negative not_equal right_shift sign sin sinh sqrt square subtract tan tanh
"""
OPERATIONS: dict[str, Callable[..., Callable[..., Any]]] = {
    **{name: functools.partial(getattr, np, name) for name in _UFUNCS.split()},
    "arange": _arange,
    "argument": _argument,
    "broadcast": _broadcast,
    "cast": _cast,
    "cholesky": _cholesky,
    "clamp": _clamp,
    "contract": _contract,
    "cumulative": _cumulative,
    "dynamic_slice": _dynamic_slice,
    "flip": _flip,
    "gather": gather,
    "integer_power": _integer_power,
    "joined": _joined,
    "logistic": _logistic,
    "pad": _pad,
    "power": _power,
    "reduce": _reduce,
    "reshape": _reshape,
    "rsqrt": _rsqrt,
    "saturated": _saturated,
    "scatter": scatter,
    "select": _select,
    "slice": _slice,
    "sort": _sort,
    "split": _split,
    "transpose": _transpose,
    "triangular_solve": _triangular_solve,
    "unstack": _unstack,
    "view": _view,
}
