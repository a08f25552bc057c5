"""Frames, arrays and lists as columns of cells. NumPy alone: exported models carry a copy.

Frames of pandas, polars and pyarrow are told by what they can do, so none of them is imported.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxmeta.tabular.estimator._values import level_of


def is_frame(X: Any) -> bool:
    """Whether it is a data frame: of pandas, polars, pyarrow, or one that is used like them."""
    return hasattr(X, "columns") and hasattr(X, "__getitem__")


def split(X: Any) -> tuple[list[Any], list[Any]]:
    """Names and columns of a frame."""
    if hasattr(X, "iloc"):  # pandas, where names may repeat
        return list(X.columns), [column for _, column in X.items()]
    if hasattr(X, "column_names"):  # pyarrow
        return list(X.column_names), [X.column(c) for c in range(len(X.column_names))]
    return list(X.columns), [X[name] for name in X.columns]


def in_order(X: Any, names: Sequence[str]) -> Any:
    """A frame that has its columns in the order of `names`; as it is, if these are not its own."""
    given = split(X)[0]
    if given == list(names) or sorted(map(str, given)) != sorted(names):
        return X
    return X.select(list(names)) if hasattr(X, "column_names") else X[list(names)]


def as_array(X: Any) -> np.ndarray:
    """What is no frame as an array; lists of text and numbers as cells."""
    if isinstance(X, np.ndarray):
        return X
    if not isinstance(X, list | tuple):
        return np.asarray(X)
    cells = np.asarray(X, object)
    # Text in a list would make text of its numbers.
    numbers = all(isinstance(each, int | float) for each in cells.flat)
    return np.asarray(X, np.float64) if numbers else cells


def order_of(column: Any) -> tuple[Any, ...] | None:
    """The categories of a column that has them in an order."""
    dtype = _dtype_of(column)
    if getattr(dtype, "ordered", False):
        if hasattr(dtype, "categories"):  # pandas
            return tuple(map(level_of, dtype.categories))
        column = _arrow_of(column)
        chunk = column.unify_dictionaries().chunk(0) if hasattr(column, "chunk") else column
        return tuple(map(level_of, chunk.dictionary.to_pylist()))
    if type(dtype).__name__ == "Enum" and hasattr(dtype, "categories"):  # polars
        return tuple(dtype.categories)
    return None


def is_category(column: Any) -> bool:
    """Whether a column is of names by its type, even if these are numbers."""
    return type(_dtype_of(column)).__name__ in (
        "CategoricalDtype",  # pandas
        "Categorical",  # polars
        "DictionaryType",  # pyarrow
    )


def _dtype_of(column: Any) -> Any:
    dtype = getattr(column, "dtype", getattr(column, "type", None))
    return getattr(dtype, "pyarrow_dtype", dtype)  # of arrow in pandas


def _arrow_of(column: Any) -> Any:
    """What pandas keeps for arrow."""
    return column.array.__arrow_array__() if hasattr(column, "array") else column


def cells_of(column: Any) -> np.ndarray:
    """The values `[N]` of a column of a frame or array, NaN, NaT or None where masked."""
    if isinstance(column, np.ma.MaskedArray):
        times = column.dtype.kind in "mM"
        lost = np.array("NaT", column.dtype) if times else np.array(None)
        column = np.where(np.ma.getmaskarray(column), lost, np.ma.getdata(column))
    if type(dtype := _dtype_of(column)).__name__ == "DictionaryType":
        # Where none is missing NumPy gets the right ones, and otherwise the last.
        column = _arrow_of(column).cast(dtype.value_type)
    values = np.asarray(column)
    if values.ndim != 1:  # a list a cell
        cells = np.empty(len(values), object)
        cells[:] = list(values)
        return cells
    return values if values.dtype.kind in "biufmM" else values.astype(object)
