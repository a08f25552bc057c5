"""A fitted head as a Python file that needs NumPy alone."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np

from jaxmeta._files import write_atomically
from jaxmeta.embeddings import _rows, _theta
from jaxmeta.export._numpy_file import ARRAY, as_stored

_HEAD = '''\
"""A few-shot classifier: predict_proba(x [N, {num_features}]) -> [N, {num_classes}], NumPy alone.

It holds {live} weights and the centre of its rows, and none of the rows.
"""

import base64

import numpy as np

'''

_FUNCTIONS = '''

def _logits(x):
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or x.shape[1] != KERNEL.shape[1]:
        raise ValueError(f"rows are [N, {KERNEL.shape[1]}], got an array of shape {x.shape}.")
    return unit_rows(unit_rows(x, np.float64) - ORIGIN, np.float64) @ KERNEL.T


def predict_proba(x):
    """Probabilities of CLASSES, [N, C], of rows x [N, D]."""
    return softmax(_logits(x))


def predict(x):
    """The likeliest class of each row [N]."""
    return CLASSES[_logits(x).argmax(axis=1)]


def predict_set(x):
    """Which classes cannot be excluded, bool [N, C], at the level that was asked for."""
    return mass_before(_logits(x)) <= MASS


def outlier_score(x):
    """How strange each row is [N]; beyond OUTLIER_THRESHOLD it may be of none of CLASSES."""
    return strangeness(_logits(x))
'''


def write_module(
    path: Path | str,
    kernel: np.ndarray,
    origin: np.ndarray,
    classes: np.ndarray,
    *,
    mass: float,
    stranger: float,
) -> None:
    """Write a file with `predict_proba`, `predict`, `predict_set` and `outlier_score`.

    Args:
      path: of the file.
      kernel: `[C, D]`.
      origin: `[D]`.
      classes: their labels `[C]`.
      mass: how much probability a set has to hold.
      stranger: beyond which score a row is strange.
    """
    head = _HEAD.format(
        num_features=kernel.shape[1], num_classes=len(kernel), live=np.count_nonzero(kernel)
    )
    sources: tuple[Any, ...] = (
        _rows.unit_rows,
        _theta.softmax,
        _theta.mass_before,
        _theta.strangeness,
    )
    functions = [inspect.getsource(each).replace(": Any", "") for each in sources]
    dtype = object if classes.dtype.kind == "O" else classes.dtype.str
    wide = ".astype(np.float64)"
    constants = [
        f"KERNEL = {as_stored(kernel.astype(np.float32), True)}{wide}",
        f"ORIGIN = {as_stored(origin.astype(np.float32), False)}{wide}",
        f"CLASSES = np.array({classes.tolist()!r}, {'object' if dtype is object else repr(dtype)})",
        f"MASS = {_number(mass)}",
        f"OUTLIER_THRESHOLD = {_number(stranger)}",
    ]
    text = head + ARRAY + "\n\n" + "\n\n".join(functions) + "\n\n" + "\n".join(constants)
    write_atomically(Path(path), (text + "\n" + _FUNCTIONS).encode())


def _number(value: float) -> str:
    return repr(float(value)) if np.isfinite(value) else "np.inf"
