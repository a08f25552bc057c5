"""From what `fit` and `predict` are given to numbers: frames, arrays, lists, sparse matrices."""

import warnings
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, column_or_1d, validate_data

from jaxmeta.tabular.estimator import _columns, _frames
from jaxmeta.tabular.estimator._columns import Column
from jaxmeta.tabular.estimator._values import LARGEST, is_missing, parse

_MANY = 0.5
"""The share of rows from which on names that are all different are hardly names."""


def read_labels(y: Any) -> np.ndarray:
    """The labels of the rows `[N]`, of an array or a column of a frame.

    Raises:
      ValueError: for labels that are missing, or are no classes.
    """
    if y is None:
        raise ValueError("MetaClassifier requires y to be passed, but the target y is None.")
    y = column_or_1d(y, warn=True)
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError("Input y contains NaN or infinity: every row needs a label.")
    if y.dtype.kind in "OMm":
        lost = sum(is_missing(value) and not isinstance(value, str) for value in y)
        if lost:
            raise ValueError(f"Input y has {lost} missing labels: every row needs one.")
    check_classification_targets(y)
    return y


def read_table(
    estimator: Any, X: Any, categorical_features: Any
) -> tuple[np.ndarray, list[Column]]:
    """Rows `[N, D]` in double precision, and what their columns are, for `fit`.

    Sets `n_features_in_` and `feature_names_in_` of the estimator.

    Raises:
      TypeError: for cells that are no values; it names the column.
      ValueError: for what cannot be read else, likewise.
    """
    X = _plain(X)
    validate_data(estimator, X, skip_check_array=True, reset=True)
    names, columns = _split(X)
    named = _named(categorical_features, names)
    described = [
        _columns.describe(str(name), column, named=chosen)
        for name, column, chosen in zip(names, columns, named, strict=True)
    ]
    for each, column in zip(described, columns, strict=True):
        _warn_of_names(each, column)
    return _numbers(described, columns), described


def read_rows(estimator: Any, X: Any, described: list[Column]) -> np.ndarray:
    """Rows to predict `[N, D]`; columns of a frame in any order.

    Raises:
      ValueError: for other columns, or kinds of columns, than `fit` had; it names the column.
    """
    X = _plain(X)
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None and _frames.is_frame(X):
        X = _frames.in_order(X, names)
    validate_data(estimator, X, skip_check_array=True, reset=False)
    _, columns = _split(X)
    if len(columns) != len(described):
        raise ValueError(
            f"X has {len(columns)} features, but MetaClassifier is expecting {len(described)} "
            "features as input."
        )
    if _frames.is_frame(X) or X.dtype.kind not in "biuf":
        return _numbers(described, columns)
    # An array of numbers holds the places of names, as codes.
    return _numbers([_columns.as_places(each) for each in described], columns)


def is_plain(X: Any, width: int | None) -> bool:
    """Whether it is an array `[N, width]` that could be read without a look at any column."""
    return (
        type(X) is np.ndarray
        and X.dtype.kind == "f"
        and X.ndim == 2
        and len(X) > 0
        and X.shape[1] == width
        # Nothing is infinite; where something is missing, that takes another look.
        and (abs(np.add.reduce(X, None, float)) < LARGEST or not (np.abs(X) > LARGEST).any())
    )


def width_of_plain_arrays(estimator: Any, described: list[Column]) -> int | None:
    """How wide the arrays are that are read as they are; None if a column has to be looked at."""
    as_they_are = (each.kind == "number" or _is_codes(each) for each in described)
    named = hasattr(estimator, "feature_names_in_")
    return len(described) if all(as_they_are) and not named else None


def _is_codes(described: Column) -> bool:
    """Whether names are the numbers of their own places."""
    places = range(len(described.levels))
    return described.kind == "name" and all(
        isinstance(level, int | float) and level == place
        for level, place in zip(described.levels, places, strict=True)
    )


def _plain(X: Any) -> Any:
    """A frame as it is; anything else as an array `[N, D]`."""
    if sparse.issparse(X):
        return check_array(X, accept_sparse=True, ensure_all_finite=False).toarray()
    if _frames.is_frame(X):
        return X
    X = _frames.as_array(X)
    # Of other cells scikit-learn checks the shape alone: what is in them is ours to read.
    checked = X if X.dtype.kind in "biufc" else np.broadcast_to(0.0, X.shape)
    check_array(checked, estimator="MetaClassifier", input_name="X", ensure_all_finite=False)
    return X


def _split(X: Any) -> tuple[list[Any], list[Any]]:
    if not _frames.is_frame(X):
        return [f"x{c}" for c in range(X.shape[1])], list(X.T)
    names, columns = _frames.split(X)
    rows = len(columns[0]) if columns else 0
    check_array(
        np.broadcast_to(0.0, (rows, len(columns))), estimator="MetaClassifier", input_name="X"
    )
    return names, columns


def _numbers(described: list[Column], columns: list[Any]) -> np.ndarray:
    read = [_columns.read(*pair) for pair in zip(described, columns, strict=True)]
    return np.stack(read, axis=1)


def _named(chosen: Any, names: list[Any]) -> np.ndarray:
    """Which columns `categorical_features` chooses, bool `[D]`."""
    mask = np.zeros(len(names), bool)
    if chosen is None:
        return mask
    if isinstance(chosen, str | int):
        chosen = [chosen]
    chosen = list(chosen)
    if chosen and all(isinstance(each, bool | np.bool_) for each in chosen):
        if len(chosen) != len(names):
            raise ValueError(
                f"categorical_features is a mask of {len(chosen)} columns, and X has {len(names)}."
            )
        return np.asarray(chosen, bool)
    for each in chosen:
        if isinstance(each, str):
            if each not in names:
                raise ValueError(f"categorical_features has {each!r}, which is no column of X.")
            mask[[name == each for name in names]] = True
        elif isinstance(each, int | np.integer) and -len(names) <= each < len(names):
            mask[each] = True
        else:
            raise ValueError(
                f"categorical_features has {each!r}: X has {len(names)} columns, which are chosen "
                "by name, by index from 0 on, or by a mask."
            )
    return mask


def _warn_of_names(described: Column, column: Any) -> None:
    """Say where a column of text is read as names, though it hardly can be."""
    if described.kind != "name" or not all(isinstance(each, str) for each in described.levels):
        return
    name, levels = described.name, described.levels
    numbers = sum(parse(level, "number") is not None for level in levels)
    if len(levels) > 10 and numbers > 0.8 * len(levels):
        warnings.warn(
            f"{name} is read as {len(levels)} names, though most of them are numbers: the others "
            "may stand for missing values.",
            stacklevel=6,
        )
    elif len(levels) > max(20, _MANY * len(_frames.cells_of(column))):
        warnings.warn(
            f"{name} is read as names, and nearly each row has its own ({len(levels)} of them): it "
            "tells nothing of new rows.",
            stacklevel=6,
        )
