"""From a table as people have it to one as the meta-net reads it: units, rows and columns."""

import warnings
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils._param_validation import InvalidParameterError

from jaxmeta.tabular._arrays import LANDMARKS, MOST_COLUMNS, MOST_ROWS, TERMS


class Units(NamedTuple):
    """The K columns that the meta-net reads, and their units; fields as those of `TableModel`."""

    features: np.ndarray
    centre: np.ndarray
    scale: np.ndarray


def choose_units(x: np.ndarray, features: np.ndarray, categorical: np.ndarray) -> Units:
    """The median and spread of each of the features of `x [N, D]`; codes stay as they are.

    In double precision, so that dates, ids and numbers of any size differ after rounding, too.
    """
    centre, scale = np.zeros(len(features)), np.ones(len(features))
    for column, feature in enumerate(features.tolist()):
        known = x[:, feature][~np.isnan(x[:, feature])]
        if categorical[feature] or not len(known):
            continue
        low, middle, high = np.quantile(known, (0.25, 0.5, 0.75), method="nearest")
        centre[column] = middle
        # Where half of the values are one, any that differs says how large they are.
        spread = high - low if high > low else np.abs(known - middle).max()
        scale[column] = spread if spread > 0 else 1.0
    return Units(features, centre, scale)


def choose_rows(y: np.ndarray, seed: int) -> np.ndarray:
    """Indices of at most 256 rows, in order; classes `y [N]` in proportion, none left out."""
    if len(y) <= MOST_ROWS:
        return np.arange(len(y))
    order = np.random.default_rng(seed).permutation(len(y))
    place = np.empty(len(y))
    for c in np.unique(y):
        of_class = order[y[order] == c]
        place[of_class] = np.arange(len(of_class)) / len(of_class)
    return np.sort(order[np.argsort(place[order], kind="stable")][:MOST_ROWS])


def choose_columns(x: np.ndarray, y: np.ndarray, categorical: np.ndarray) -> np.ndarray:
    """Indices of at most 20 columns of `x [N, D]`, in order: those that tell most of `y [N]`."""
    if x.shape[1] <= MOST_COLUMNS:
        return np.arange(x.shape[1])
    members = (y[:, None] == np.unique(y)).astype(float)
    told = [_told(column, members, codes) for column, codes in zip(x.T, categorical, strict=True)]
    return np.sort(np.argsort(-np.asarray(told), kind="stable")[:MOST_COLUMNS])


def _told(column: np.ndarray, members: np.ndarray, categorical: bool) -> float:
    """The largest squared correlation of a class with the column's ranks, or with a level."""
    known = ~np.isnan(column)
    if categorical:
        values = column[:, None] == np.unique(column[known])
    else:
        order = np.unique(column, return_inverse=True)[1].astype(float)
        values = np.where(known, order, order[known].mean() if known.any() else 0.0)[:, None]
    values = values - values.mean(axis=0)
    classes = members - members.mean(axis=0)
    scale = np.sqrt((values**2).sum(axis=0)[:, None] * (classes**2).sum(axis=0)) + 1e-12
    return float(np.square(values.T @ classes / scale).max(initial=0.0))


def num_terms(n_nonzero: Any, num_columns: int) -> int:
    """How many terms a model of so many columns may have; 0 for all of them."""
    if isinstance(n_nonzero, bool | np.bool_):
        raise InvalidParameterError(
            "The 'n_nonzero' parameter of MetaClassifier must be an int in the range [1, inf) or "
            f"None. Got {n_nonzero} instead."
        )
    most = TERMS * num_columns + LANDMARKS
    return 0 if n_nonzero is None or n_nonzero >= most else int(n_nonzero)


def warn_of_what_is_left_out(rows: int, columns: int, num_rows: int, num_columns: int) -> None:
    """Say that fewer rows or columns are read than there are."""
    # With fewer rows than can be read, those that are not read weigh too little.
    if rows < num_rows > MOST_ROWS or columns < num_columns:
        warnings.warn(
            f"MetaClassifier reads {rows} of {num_rows} rows and {columns} of {num_columns} "
            "columns: its meta-net was trained for no more.",
            stacklevel=5,  # where `fit` was called
        )
