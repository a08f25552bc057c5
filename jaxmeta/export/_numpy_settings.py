"""What an equation of JAX is among the operations of programs that NumPy runs."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxmeta.export._numpy_windows import SCATTERS, gather, ints, scatter

_SAME = """
add ceil cholesky clamp cos cosh exp exp2 expm1 floor log log1p log2 logistic rsqrt sign sin sinh
sqrt square tan tanh
"""
_WITHOUT_SETTINGS = {name: name for name in _SAME.split()} | {
    "abs": "absolute",
    "add_any": "add",
    "and": "bitwise_and",
    "eq": "equal",
    "ge": "greater_equal",
    "gt": "greater",
    "is_finite": "isfinite",
    "le": "less_equal",
    "lt": "less",
    "max": "maximum",
    "min": "minimum",
    "mul": "multiply",
    "ne": "not_equal",
    "neg": "negative",
    "not": "invert",
    "or": "bitwise_or",
    "rem": "fmod",
    "shift_left": "left_shift",
    "shift_right_arithmetic": "right_shift",
    "sub": "subtract",
    "xor": "bitwise_xor",
}
_REDUCTIONS = {
    "reduce_sum": "add",
    "reduce_prod": "multiply",
    "reduce_max": "maximum",
    "reduce_min": "minimum",
    "reduce_or": "bitwise_or",
    "reduce_and": "bitwise_and",
}
_CUMULATIVE = {"cumsum": "add", "cumprod": "multiply", "cummax": "maximum", "cummin": "minimum"}


def native(dtype: Any) -> np.dtype:
    if dtype not in (bool, np.int32, np.int64, np.uint32, np.uint8, np.float32, np.float64):
        raise NotImplementedError(f"numpy_program does not know numbers of the type {dtype}.")
    return np.dtype(dtype)


def operation(eqn: Any, document: Callable[[Any], dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The name and the settings of a step.

    Args:
      eqn: an equation of a jaxpr.
      document: makes a program of the jaxpr of a loop or a branch.

    Raises:
      NotImplementedError: for what there is no operation for.
    """
    name, params = eqn.primitive.name, eqn.params
    for variable in (*eqn.invars, *eqn.outvars):
        native(variable.aval.dtype)
    result = eqn.outvars[0].aval
    if name in _WITHOUT_SETTINGS:
        return _WITHOUT_SETTINGS[name], {}
    if name in _REDUCTIONS:
        by, axes = _REDUCTIONS[name], ints(params["axes"])
        return "reduce", {"by": by, "axes": axes, "dtype": result.dtype.name}
    if name in _CUMULATIVE:
        by, reverse = _CUMULATIVE[name], params["reverse"]
        return "cumulative", {"by": by, "axis": params["axis"], "reverse": reverse}
    if name in _CONTROL:
        return _CONTROL[name](eqn, document)
    if name in _SETTINGS:
        settings = _SETTINGS[name](params, eqn)
        if settings is not None:
            return settings
    raise NotImplementedError(f"numpy_program has no counterpart in NumPy for {name}: {eqn}.")


def _reshape(params, eqn):
    return "reshape", {"shape": ints(eqn.outvars[0].aval.shape)}


def _joined(by, axis):
    return "joined", {"by": by, "axis": axis}


def _divide(params, eqn):
    return ("divide", {}) if np.issubdtype(eqn.invars[0].aval.dtype, np.floating) else None


def _power(params, eqn):
    return "power", {"dtype": eqn.outvars[0].aval.dtype.name}


def _cast(params, eqn):
    old, new = eqn.invars[0].aval.dtype, params["new_dtype"]
    rounds = old.kind == "f" and new.kind in "iu" and new.itemsize <= 4
    return "saturated" if rounds else "cast", {"dtype": new.name}


def _select(params, eqn):
    return ("select", {}) if len(eqn.invars) == 3 else None


def _sort(params, eqn):
    return ("sort", {"axis": params["dimension"]}) if params["num_keys"] == 1 else None


def _view(params, eqn):
    dtype = np.dtype(params["new_dtype"])
    same = dtype.itemsize == eqn.invars[0].aval.dtype.itemsize
    return ("view", {"dtype": dtype.name}) if same else None


def _logical_shift(params, eqn):
    return ("right_shift", {}) if eqn.invars[0].aval.dtype.kind == "u" else None


def _pad(params, eqn):
    widths = [ints(each[:2]) for each in params["padding_config"]]
    plain = not any(inner for _, _, inner in params["padding_config"]) and np.min(widths) >= 0
    return ("pad", {"widths": widths}) if plain else None


def _argument(params, eqn):
    of, (axis,) = eqn.primitive.name, params["axes"]
    return "argument", {"of": of, "axis": int(axis), "dtype": eqn.outvars[0].aval.dtype.name}


def _split(params, eqn):
    return "split", {"axis": params["axis"], "ends": ints(np.cumsum(params["sizes"])[:-1])}


def _arange(params, eqn):
    shape, dtype = ints(params["shape"]), params["dtype"].name
    return "arange", {"axis": params["dimension"], "shape": shape, "dtype": dtype}


def _broadcast(params, eqn):
    middle = [1] * len(params["shape"])
    for axis, size in zip(params["broadcast_dimensions"], eqn.invars[0].aval.shape, strict=True):
        middle[axis] = size
    return "broadcast", {"middle": ints(middle), "shape": ints(params["shape"])}


def _slice(params, eqn):
    start, stop = ints(params["start_indices"]), ints(params["limit_indices"])
    return "slice", {
        "start": start,
        "stop": stop,
        "step": ints(params["strides"] or [1] * len(start)),
    }


def _contract(params, eqn):
    """As matrices [batch, rows, summed] and [batch, summed, columns]."""
    settings = []
    for side, (variable, summed, batch) in enumerate(
        zip(eqn.invars, *params["dimension_numbers"], strict=True)
    ):
        extents = variable.aval.shape
        free = [axis for axis in range(len(extents)) if axis not in (*summed, *batch)]
        ends = [math.prod(extents[axis] for axis in group) for group in (free, summed)]
        order = [*batch, *free, *summed] if side == 0 else [*batch, *summed, *free]
        matrices = [*(extents[axis] for axis in batch), *(ends if side == 0 else ends[::-1])]
        settings.append([ints(order), ints(matrices)])
    return "contract", dict(zip(("left", "right"), settings, strict=True)) | {
        "shape": ints(eqn.outvars[0].aval.shape)
    }


def _triangular_solve(params, eqn):
    settings = {"left": "left_side", "lower": "lower"}
    settings |= {"transpose": "transpose_a", "unit": "unit_diagonal"}
    return "triangular_solve", {ours: bool(params[theirs]) for ours, theirs in settings.items()}


def _scan(eqn, document):
    body = eqn.params["jaxpr"]
    # Versions of jax count them in different ways; what is scanned over has one axis more.
    scanned, stacked = (
        sum(each.aval.ndim > inner.ndim for each, inner in zip(outer, avals, strict=True))
        for outer, avals in ((eqn.invars, body.in_avals), (eqn.outvars, body.out_avals))
    )
    num_carry = len(eqn.outvars) - stacked
    return "scan", {
        "body": document(body),
        "num_consts": len(eqn.invars) - num_carry - scanned,
        "num_carry": num_carry,
        "length": eqn.params["length"],
        "reverse": eqn.params["reverse"],
        "empty": [[[0, *ints(y.shape)], y.dtype.name] for y in body.out_avals[num_carry:]],
    }


def _while(eqn, document):
    params = eqn.params
    return "while", {
        "condition": document(params["cond_jaxpr"]),
        "body": document(params["body_jaxpr"]),
        "condition_consts": params["cond_nconsts"],
        "consts": params["body_nconsts"],
    }


def _branch(eqn, document):
    return "branch", {"branches": [document(branch) for branch in eqn.params["branches"]]}


_SETTINGS: dict[str, Callable[[Any, Any], tuple[str, dict[str, Any]] | None]] = {
    "argmax": _argument,
    "argmin": _argument,
    "broadcast_in_dim": _broadcast,
    "bitcast_convert_type": _view,
    "concatenate": lambda params, eqn: _joined("concatenate", params["dimension"]),
    "convert_element_type": _cast,
    "div": _divide,
    "dot_general": _contract,
    "dynamic_slice": lambda params, eqn: ("dynamic_slice", {"sizes": ints(params["slice_sizes"])}),
    "gather": gather,
    "integer_pow": lambda params, eqn: ("integer_power", {"exponent": params["y"]}),
    "iota": _arange,
    "pad": _pad,
    "pow": _power,
    "reshape": _reshape,
    "rev": lambda params, eqn: ("flip", {"axes": ints(params["dimensions"])}),
    **dict.fromkeys(SCATTERS, scatter),
    "select_n": _select,
    "shift_right_logical": _logical_shift,
    "slice": _slice,
    "sort": _sort,
    "split": _split,
    "squeeze": _reshape,
    "stack": lambda params, eqn: _joined("stack", params["axis"]),
    "transpose": lambda params, eqn: ("transpose", {"axes": ints(params["permutation"])}),
    "triangular_solve": _triangular_solve,
    "unstack": lambda params, eqn: ("unstack", {"axis": params["axis"]}),
}
_CONTROL = {"cond": _branch, "scan": _scan, "while": _while}
