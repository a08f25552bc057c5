"""What the meta-net reads and emits as plain arrays: sizes, terms, padding. NumPy and nothing else.

So who fits a table does not wait for JAX to start.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxmeta.types import Array

# The version of what the network reads. Trained weights mean something only beside the numbers that
# they were trained on: whoever changes a feature, or one of the constants below, those of
# `meta_net`, raises it and trains again. Weights without a version are of the first.
FEATURES = 1

MOST_ROWS, MOST_COLUMNS, MOST_CLASSES = 256, 20, 5
ROWS = (32, 100, MOST_ROWS)
"""The sizes that programs of the shipped meta-net are made for: a table is padded to the next."""

TERMS = 7
"""Terms of a column; the last says that the value is missing."""

LANDMARKS = 32
"""Landmarks of a table of the shipped meta-net, of which a term each says how near a row is."""

LEVELS = TERMS - 1
"""Levels of a categorical column that have a term; what is numeric has as many others."""

NUM_QUANTILES = 17
HINGES = (3, 6, 10, 13)  # which of the quantiles
FARTHEST = 4.0  # standard deviations at which a standardised value stops
# The least and the greatest of so many numbers are expected at these ends, not at infinity.
SCORES = np.asarray(
    [NormalDist().inv_cdf(share) for share in np.linspace(0.03, 0.97, NUM_QUANTILES)], np.float32
)


class Dictionary(NamedTuple):
    """What turns rows into terms. D columns, M landmarks, F = 7 D + M terms.

    Attributes:
      categorical: which columns hold codes, bool `[D]`.
      centre: mean of each numeric column `[D]`.
      scale: its standard deviation `[D]`; one where it does not vary.
      quantiles: of each numeric column `[D, 17]`.
      levels: the most frequent codes of each categorical column `[D, 6]`, -1 where there are fewer.
      metric: what terms are multiplied by where nearness is measured `[7 D]`.
      landmarks: support rows in these coordinates `[M, 7 D]`.
      mean: of each raw term `[F]`.
      inverse_std: of each raw term `[F]`; zero for one that does not vary.
    """

    categorical: Array
    centre: Array
    scale: Array
    quantiles: Array
    levels: Array
    metric: Array
    landmarks: Array
    mean: Array
    inverse_std: Array


class EmittedTable(NamedTuple):
    """`w` of the tabular meta-net: contrasts to class 0, linear in the dictionary's terms.

    Attributes:
      kernel: `[F + D, C - 1]`; rows of exact zeros for terms that are not used. The last D are of
        contrasts, one a categorical column, which a dense model has no need of.
      bias: `[C - 1]`.
      present: which classes the support set has, bool `[C]`.
      dictionary: what turns rows into terms.
      contrasts: of which levels each contrast consists, `[D, 6]`.
    """

    kernel: Array
    bias: Array
    present: Array
    dictionary: Dictionary
    contrasts: Array


def pad_rows(
    x: np.ndarray, y: np.ndarray, rows: int, columns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arrays of `meta_net.table_examples`."""
    table = np.zeros((rows, 2, columns), np.float32)
    table[: len(x), 0, : x.shape[1]] = np.nan_to_num(x)
    table[: len(x), 1, : x.shape[1]] = ~np.isnan(x)
    classes = np.full(rows, -1, np.int32)
    classes[: len(x)] = y
    return table, classes, (np.arange(rows) < len(x)).astype(np.float32)


def pad_columns(categorical: np.ndarray, columns: int) -> np.ndarray:
    """1 for columns that hold codes, 0 for numbers and for padding."""
    codes = np.zeros(columns, np.float32)
    codes[: len(categorical)] = categorical
    return codes
