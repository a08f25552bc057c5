"""A perceptron as a Python file that needs NumPy and nothing else."""

import base64
from collections.abc import Callable

import numpy as np

from jaxmeta.export.perceptron import Perceptron
from jaxmeta.learners.common import ABSENT

_HEAD = '''\
"""A learner adapted to one task: predict(x [N, {num_inputs}]) -> z [N, {num_outputs}].

It reads {read} of the inputs, in {adds:,} multiply-adds a row, and needs NumPy alone.
"""

import base64

import numpy as np


def _array(shape, dtype, values, places=None):
    """What is stored: all of an array, or its entries that are not zero and where they are."""
    values = np.frombuffer(base64.b85decode(values), dtype)
    if places is None:
        return values.reshape(shape)
    whole = np.zeros(shape, dtype)
    whole.flat[np.frombuffer(base64.b85decode(places[1]), places[0])] = values
    return whole


'''


def numpy_source(learner: Perceptron, *, compress: bool = True) -> str:
    """The text of a Python file with `predict(x)`; what it computes is as fast as it is small.

    Each array is stored whole, or (with `compress`) as its entries that are not zero with their
    places, if that is smaller. It is put together once, when the file is loaded: NumPy multiplies a
    matrix of the live inputs and units faster than it gathers single entries.
    """
    names, stored = [], []
    for i, (kernel, bias) in enumerate(learner.layers):
        stored += [f"KERNEL_{i} = {_stored(kernel, compress)}"]
        stored += [f"BIAS_{i} = {_stored(bias, compress)}"]
        names.append(f"rows @ KERNEL_{i} + BIAS_{i}")
    whole = len(learner.inputs) == learner.num_inputs
    if not whole:
        stored.append(f"INPUTS = {_stored(learner.inputs, compress)}.astype(np.intp)")
    body = ["x = np.asarray(x, np.float32).reshape(len(x), -1)"]
    body.append("rows = x" if whole else "rows = x.take(INPUTS, axis=1)")
    if learner.unit_rows or learner.square:
        body.append('squares = np.einsum("ij,ij->i", x, x)[:, None]')
    if learner.unit_rows:
        body.append("rows = rows / np.sqrt(np.maximum(squares, 1e-12))")
    body += [f"rows = np.maximum({product}, 0)" for product in names[:-1]]
    body.append(f"z = {names[-1]}")
    if learner.square:
        body.append(f"z += {learner.square!r} * squares")
    adds = sum(kernel.size for kernel, _ in learner.layers)
    head = _HEAD.format(
        num_inputs=learner.num_inputs,
        num_outputs=learner.num_outputs,
        read=len(learner.inputs),
        adds=adds,
    )
    return (
        head
        + "\n".join(stored)
        + "\n\n\ndef predict(x):\n"
        + '    """Logits of the rows of x; a class that the task does not have gets -1e30."""\n'
        + "".join(f"    {line}\n" for line in body + _columns(learner))
    )


def _columns(learner: Perceptron) -> list[str]:
    """From the outputs of the last layer to the columns of z."""
    if np.array_equal(learner.outputs, np.arange(learner.num_outputs)):
        return ["return z"]
    whole = f"whole = np.full((len(x), {learner.num_outputs}), {ABSENT!r}, np.float32)"
    if len(set(learner.outputs.tolist())) == len(learner.outputs):
        return [whole, f"whole[:, {learner.outputs.tolist()}] = z", "return whole"]
    return [
        whole,
        f"for column, output in enumerate({learner.outputs.tolist()}):",
        "    whole[:, output] = np.logaddexp(whole[:, output], z[:, column])",
        "return whole",
    ]


def _stored(array: np.ndarray, compress: bool) -> str:
    """An array as a call of `_array`, the shorter of two."""
    if np.issubdtype(array.dtype, np.integer):
        array = array.astype(_index_dtype(array.max(initial=0)))
        return f"_array({array.shape}, {array.dtype.name!r}, {_text(array)})"
    array = array.astype(np.float32)
    places = np.flatnonzero(array).astype(_index_dtype(array.size))
    values = array.ravel()[places]
    if not compress or values.nbytes + places.nbytes >= array.nbytes:
        return f"_array({array.shape}, 'float32', {_text(array)})"
    where = f"({places.dtype.name!r}, {_text(places)})"
    return f"_array({array.shape}, 'float32', {_text(values)}, {where})"


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
