"""An emitted model as a Python file that needs NumPy alone."""

import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from jaxmeta._files import write_atomically
from jaxmeta.tabular.estimator import _columns, _frames, _model, _values
from jaxmeta.tabular.estimator._columns import Column
from jaxmeta.tabular.estimator._model import TableModel
from jaxmeta.tabular.estimator._values import level_of


def write_module(
    emitted: Sequence[TableModel],
    columns: Sequence[Column],
    classes: np.ndarray,
    path: Path | str,
    *,
    named: bool,
) -> None:
    """Write a file with `COLUMNS`, `NAMES`, `MODELS`, `CLASSES`, `predict_proba(x)`, `predict(x)`.

    Args:
      emitted: one model, or one for each class against the rest.
      columns: all that `fit` had.
      classes: their labels.
      path: of the file.
      named: whether the columns of frames are found by their names.
    """
    lines = ["", "", "COLUMNS = ["]
    for name, kind, levels, text in columns:
        lines.append(f"    Column({name!r}, {kind!r}, {levels!r}, {text!r}),")
    names = [column.name for column in columns] if named else None
    lines += ["]", f"NAMES = {names!r}", "MODELS = ["]
    for model in emitted:
        lines.append("    TableModel(")
        for name, array in model._asdict().items():
            lines.append(f"        {name}={_array(array)},")
        lines.append("    ),")
    lines += ["]", f"CLASSES = {_labels(classes)}", _FUNCTIONS]
    write_atomically(Path(path), ("\n\n".join(_sources()) + "\n".join(lines)).encode())


def _sources() -> list[str]:
    """The files that read rows and predict, without what they import from each other."""
    inside = re.compile(r"^from jaxmeta\.\S+ import (\([^)]*\)|.*)\n", re.MULTILINE)
    modules: tuple[ModuleType, ...] = (_values, _frames, _columns, _model)
    return [inside.sub("", Path(str(each.__file__)).read_text()).strip() + "\n" for each in modules]


def _array(array: np.ndarray) -> str:
    shape = "" if array.ndim < 2 else f".reshape({', '.join(map(str, array.shape))})"
    dtype = "int" if array.dtype.kind == "i" else "float"
    return f"np.array({array.ravel().tolist()!r}, {dtype}){shape}"


def _labels(classes: np.ndarray) -> str:
    """Labels as they were: numbers and times in their dtype, others as text."""
    if classes.dtype.kind in "Mm":
        return f"np.array({classes.astype(np.int64).tolist()!r}).view({classes.dtype.str!r})"
    if classes.dtype.kind in "biufSU":
        return f"np.array({classes.tolist()!r}, {classes.dtype.str!r})"
    return f"np.array({[level_of(each) for each in classes]!r}, object)"


_FUNCTIONS = '''

def _rows(x):
    if is_frame(x):
        if NAMES is not None:
            x = in_order(x, NAMES)
        names, columns = split(x)
        if NAMES is not None and list(map(str, names)) != NAMES:
            raise ValueError(f"the columns are {names}, and the model has {NAMES}.")
        described = COLUMNS
    else:
        x = as_array(x)
        if x.ndim != 2:
            raise ValueError(f"rows are [N, D], got an array of shape {x.shape}.")
        columns, described = list(x.T), COLUMNS
        if x.dtype.kind in "biuf":
            described = [as_places(column) for column in COLUMNS]
    if len(columns) != len(COLUMNS):
        raise ValueError(f"rows have {len(columns)} columns, and the model has {len(COLUMNS)}.")
    return np.stack([read(*pair) for pair in zip(described, columns)], axis=1)


def predict_proba(x):
    """Probabilities of `CLASSES`, `[N, C]`, of rows `x`: a frame, an array or a list `[N, D]`.

    In arrays of numbers, names are their places among the sorted ones.
    """
    return probabilities(MODELS, _rows(x))


def predict(x):
    """The likeliest class of each row `[N]`."""
    return CLASSES[predict_proba(x).argmax(axis=1)]
'''
