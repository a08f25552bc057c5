"""NumPy tables as the examples and the description that the tabular meta-net reads."""

from typing import Any

import numpy as np

from jaxmeta.tabular._arrays import pad_columns, pad_rows
from jaxmeta.tabular.meta_net._learner import TableDescription
from jaxmeta.types import Examples


def table_examples(x: np.ndarray, y: np.ndarray, *, rows: int, columns: int) -> Examples:
    """A table padded to static sizes.

    Args:
      x: values `[N, D]`, NaN where missing, codes 0, 1, ... in categorical columns.
      y: classes `[N]`.
      rows: rows to pad to, at least N.
      columns: columns to pad to, at least D.

    Returns:
      Arrays of NumPy: x `[rows, 2, columns]`, values and 1 where one is known, y `[rows]`, -1 where
      padded, and the mask `[rows]`.

    Raises:
      ValueError: if the table is larger.
    """
    if len(x) > rows or x.shape[1] > columns:
        raise ValueError(f"table_examples pads to {rows} x {columns}, got a table of {x.shape}.")
    arrays: Any = pad_rows(x, y, rows, columns)
    return Examples(*arrays)


def table_description(
    categorical: np.ndarray, *, columns: int, num_terms: int = 0
) -> TableDescription:
    """Describe a table: which columns hold codes, and how many terms its model may have.

    Args:
      categorical: which columns hold codes, bool `[D]`.
      columns: columns to pad to, at least D.
      num_terms: the most terms of the model; 0 for no limit.

    Returns:
      A description padded like the columns of `table_examples`.
    """
    codes: Any = pad_columns(categorical, columns)
    bound: Any = np.int32(num_terms)
    return TableDescription(codes, bound)
