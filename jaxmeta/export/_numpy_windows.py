"""The settings of XLA's `gather` and `scatter`."""

from typing import Any

import jax
import numpy as np

SCATTERS = {
    "scatter": None,
    "scatter-add": "add",
    "scatter-mul": "multiply",
    "scatter-max": "maximum",
    "scatter-min": "minimum",
}


def ints(values: Any) -> list[int]:
    """Numbers that JSON can hold."""
    return [int(value) for value in values]


def gather(params, eqn):
    numbers, dtype = params["dimension_numbers"], eqn.invars[0].aval.dtype
    missing = params["fill_value"]
    if missing is None:
        missing = {"f": "nan", "b": True}.get(dtype.kind)
    if missing is None:
        missing = np.iinfo(dtype).min if dtype.kind == "i" else np.iinfo(dtype).max
    return "gather", {
        "offsets": ints(numbers.offset_dims),
        "missing": missing if isinstance(missing, str) else np.asarray(missing).item(),
        "collapsed": ints(numbers.collapsed_slice_dims),
        "start_map": ints(numbers.start_index_map),
        "batch": ints(numbers.operand_batching_dims),
        "index_batch": ints(numbers.start_indices_batching_dims),
        "sizes": ints(params["slice_sizes"]),
        "fill": params["mode"] == jax.lax.GatherScatterMode.FILL_OR_DROP,
    }


def scatter(params, eqn):
    numbers, x, values = params["dimension_numbers"], eqn.invars[0].aval, eqn.invars[2].aval
    inserted, batch = numbers.inserted_window_dims, numbers.operand_batching_dims
    window = [d for d in range(x.ndim) if d not in inserted and d not in batch]
    sizes = [1] * x.ndim
    for d, place in zip(window, numbers.update_window_dims, strict=True):
        sizes[d] = values.shape[place]
    return "scatter", {
        "updates": ints(numbers.update_window_dims),
        "by": SCATTERS[eqn.primitive.name],
        "collapsed": ints(inserted),
        "start_map": ints(numbers.scatter_dims_to_operand_dims),
        "batch": ints(batch),
        "index_batch": ints(numbers.scatter_indices_batching_dims),
        "sizes": sizes,
        "fill": params["mode"] == jax.lax.GatherScatterMode.FILL_OR_DROP,
    }
