"""Tables that are larger than the meta-net was trained for: which rows and columns it reads."""

import numpy as np

from jaxmeta.tabular._arrays import MOST_COLUMNS, MOST_ROWS


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
