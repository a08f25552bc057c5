"""A perceptron as a Python file that needs NumPy and nothing else."""

import base64
import math
from collections.abc import Callable

import numpy as np

from jaxmeta.export._perceptron import Perceptron

ARRAY = '''\
def _array(shape, dtype, values, places=None):
    """What is stored: all of an array, or its entries that are not zero and where they are."""
    values = np.frombuffer(base64.b85decode(values), dtype)
    if places is None:
        return values.reshape(shape)
    whole = np.zeros(shape, dtype)
    whole.flat[np.frombuffer(base64.b85decode(places[1]), places[0])] = values
    return whole
'''
"""How a file puts its arrays together."""

_HEAD = '''\
"""A learner adapted to one task: predict(x [N, {num_inputs}]) -> z [N, {num_outputs}].

It reads {read} of the inputs, in {adds:,} multiply-adds a row, and needs NumPy alone.
"""

import base64

import numpy as np

LEAST = float(np.finfo(np.float32).min)
FLOOR = (1.0 - 2.0**-20) * LEAST


'''

_ROWS = '''\
def _rows(x, num_inputs):
    """x as rows of inputs, none included."""
    x = np.asarray(x, np.float32)
    if x.ndim < 2 or x.size != len(x) * num_inputs:
        raise ValueError(f"predict reads rows x [N, {num_inputs}], got {x.shape}.")
    return x.reshape(len(x), num_inputs)


def _bounded(z):
    """Logits that float32 holds, none as low as LEAST; a row's relative to its best if it must."""
    best = z.max(axis=1, keepdims=True)
    return np.maximum(np.where(best < FLOOR, z - best, z), FLOOR).astype(np.float32)


'''


_SETS = '''

THRESHOLD = {threshold!r}


def predict_proba(x):
    """Probabilities [N, C] of the rows of x."""
    z = predict(x).astype(np.float64)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def predict_set(x):
    """Which classes cannot be excluded, bool [N, C], at the level that THRESHOLD was found for."""
    return 1.0 - predict_proba(x) <= THRESHOLD
'''


def numpy_source(
    learner: Perceptron, *, compress: bool = True, threshold: float | None = None
) -> str:
    """The text of a Python file with `predict(x)`; what it computes is as fast as it is small.

    Each array is stored whole, or (with `compress`) as its entries that are not zero with their
    places, if that is smaller. It is put together once, when the file is loaded: NumPy multiplies a
    matrix of the live inputs and units faster than it gathers single entries.

    Args:
      learner: as `perceptron` or `prune_dead_units` give it.
      compress: whether arrays may be stored as their entries that are not zero.
      threshold: of `evaluation.conformal`; with it the file has `predict_proba(x)` and
        `predict_set(x)` too.

    Raises:
      ValueError: for a threshold that is infinite or NaN: then no class is ever excluded.
    """
    names, stored = [], []
    for i, (kernel, bias) in enumerate(learner.layers):
        wide = ".astype(np.float64)" if learner.square else ""
        stored += [f"KERNEL_{i} = {as_stored(kernel, compress)}{wide}"]
        stored += [f"BIAS_{i} = {as_stored(bias, compress)}"]
        names.append(f"rows @ KERNEL_{i} + BIAS_{i}")
    whole = len(learner.inputs) == learner.num_inputs
    if not whole:
        stored.append(f"INPUTS = {as_stored(learner.inputs, compress)}.astype(np.intp)")
    body = [f"x = _rows(x, {learner.num_inputs})"]
    if learner.square:
        body.append("x = x.astype(np.float64)")
    body.append("rows = x" if whole else "rows = x.take(INPUTS, axis=1)")
    if learner.unit_rows or learner.square:
        body.append('squares = np.einsum("ij,ij->i", x, x, dtype=np.float64)[:, None]')
    if learner.unit_rows:
        body.append("rows = rows / np.sqrt(np.maximum(squares, 1e-12)).astype(np.float32)")
    body += [f"rows = np.maximum({product}, 0)" for product in names[:-1]]
    body.append(f"z = {names[-1]}")
    if learner.square:
        body.append(f"z = _bounded({learner.scale!r} * (z + {learner.square!r} * squares))")
    elif learner.scale != 1.0:
        body.append(f"z = {learner.scale!r} * z")
    return (
        _head(learner)
        + "\n".join(stored)
        + "\n\n\ndef predict(x):\n"
        + '    """Logits of the rows of x; a class that the task does not have gets LEAST."""\n'
        + "".join(f"    {line}\n" for line in body + _columns(learner))
        + _sets(threshold)
    )


def _head(learner: Perceptron) -> str:
    """What every file begins with."""
    head = _HEAD.format(
        num_inputs=learner.num_inputs,
        num_outputs=learner.num_outputs,
        read=len(learner.inputs),
        adds=sum(kernel.size for kernel, _ in learner.layers),
    )
    return head + ARRAY + "\n\n" + _ROWS


def _sets(threshold: float | None) -> str:
    """The functions of a file that has a threshold."""
    if threshold is None:
        return ""
    if not math.isfinite(threshold):
        raise ValueError(
            f"A threshold of {threshold} excludes no class: calibrate on more tasks, or at a lower "
            "level."
        )
    return _SETS.format(threshold=float(threshold))


def _columns(learner: Perceptron) -> list[str]:
    """From the outputs of the last layer to the columns of z."""
    if np.array_equal(learner.outputs, np.arange(learner.num_outputs)):
        return ["return z"]
    whole = f"whole = np.full((len(x), {learner.num_outputs}), LEAST, np.float32)"
    outputs = sorted(set(learner.outputs.tolist()))
    if len(outputs) == len(learner.outputs):
        return [whole, f"whole[:, {learner.outputs.tolist()}] = z", "return whole"]
    return [
        whole,
        f"whole[:, {outputs}] = -np.inf",
        f"for column, output in enumerate({learner.outputs.tolist()}):",
        "    whole[:, output] = np.logaddexp(whole[:, output], z[:, column])",
        "return whole",
    ]


def as_stored(array: np.ndarray, compress: bool) -> str:
    """An array as a call of `_array`, the shorter of two."""
    if np.issubdtype(array.dtype, np.integer):
        array = array.astype(_index_dtype(array.max(initial=0)))
        return f"_array({array.shape}, {array.dtype.name!r}, {_text(array)})"
    if array.dtype != np.float64:
        array = array.astype(np.float32)
    places = np.flatnonzero(array).astype(_index_dtype(array.size))
    values = array.ravel()[places]
    if not compress or values.nbytes + places.nbytes >= array.nbytes:
        return f"_array({array.shape}, {array.dtype.name!r}, {_text(array)})"
    where = f"({places.dtype.name!r}, {_text(places)})"
    return f"_array({array.shape}, {array.dtype.name!r}, {_text(values)}, {where})"


def _index_dtype(largest: int) -> type[np.integer]:
    return np.uint16 if largest < 2**16 else np.uint32


def _text(array: np.ndarray) -> str:
    little = array.astype(array.dtype.newbyteorder("<"))
    return repr(base64.b85encode(little.tobytes()).decode())


def load(source: str) -> Callable[[np.ndarray], np.ndarray]:
    """`predict` of the text of such a file."""
    names = {}
    exec(compile(source, "<exported learner>", "exec"), names)
    return names["predict"]
