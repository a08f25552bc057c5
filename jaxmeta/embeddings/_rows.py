"""What `FewShotClassifier` is given: rows, labels, and vectors of the names of classes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d, validate_data


def read_rows(estimator: Any, X: Any, *, reset: bool, may_be_empty: bool = False) -> np.ndarray:
    """Rows `[N, D]` as numbers; sets `n_features_in_` of the estimator with `reset`.

    Raises:
      ValueError: for NaN, infinity, another number of columns, or no row where one is needed.
    """
    plain = type(X) is np.ndarray and X.ndim == 2 and X.dtype in (np.float32, np.float64)
    if plain and (len(X) or may_be_empty) and X.shape[1] and np.isfinite(X).all():
        # The checks of scikit-learn take longer than a fit.
        if reset:
            estimator.n_features_in_ = X.shape[1]
            vars(estimator).pop("feature_names_in_", None)
            return X
        if X.shape[1] == estimator.n_features_in_ and not hasattr(estimator, "feature_names_in_"):
            return X
    options = {"dtype": [np.float64, np.float32], "ensure_min_samples": 0 if may_be_empty else 1}
    return validate_data(estimator, X, reset=reset, **options)


def read_labels(y: Any, num_rows: int) -> np.ndarray:
    """The labels of the rows `[N]`.

    Raises:
      ValueError: for labels that are missing, are no classes, or are not one a row.
    """
    if y is None:
        raise ValueError("FewShotClassifier requires y to be passed, but the target y is None.")
    if type(y) is not np.ndarray or y.ndim != 1:
        y = column_or_1d(y, warn=True)
    if len(y) != num_rows:
        raise ValueError(f"X has {num_rows} rows and y has {len(y)} labels: every row needs one.")
    if not len(y):
        return y
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError("Input y contains NaN or infinity: every row needs a label.")
    if y.dtype.kind == "O" and any(each is None or each != each for each in y):
        raise ValueError("Input y has missing labels: every row needs one.")
    if y.dtype.kind not in "iubUS":
        check_classification_targets(y)
    return y


def all_labels(*parts: Any) -> np.ndarray:
    """The different labels of several lists, sorted.

    Raises:
      ValueError: for labels of kinds that cannot be sorted.
    """
    try:
        return np.array(sorted(set().union(*parts)))
    except TypeError as error:
        raise ValueError(
            "Labels have to be all text or all numbers, in y and in names, to be sorted."
        ) from error


def read_names(names: Any) -> dict[Any, np.ndarray]:
    """Vectors of names by label, all of one size.

    Raises:
      ValueError: for what is no mapping, another shape, NaN, infinity or zeros; it names the label.
    """
    if names is None:
        return {}
    if not isinstance(names, Mapping):
        raise ValueError(
            f"names is a dict from label to vector [D], or None, got {type(names).__name__}."
        )
    if not names:
        return {}
    try:
        table = np.array(list(names.values()), np.float64)
        if table.ndim != 2 or not np.isfinite(table).all() or not table.any(axis=1).all():
            raise ValueError
    except (TypeError, ValueError) as error:
        raise ValueError(_what_is_wrong(names)) from error
    return dict(zip(names, table, strict=True))


def _what_is_wrong(names: Mapping[Any, Any]) -> str:
    """Of names that are no table of numbers, which is the first at fault, and how."""
    size = None
    for label, vector in names.items():
        try:
            vector = np.asarray(vector, np.float64)
        except (TypeError, ValueError):
            return f"The name of '{label}' is no vector of numbers."
        size = vector.size if size is None else size
        if vector.shape != (size,):
            return (
                f"Names are vectors of one size, the first has {size} numbers, that of '{label}' "
                f"has shape {vector.shape}."
            )
        if not np.isfinite(vector).all():
            return f"The name of '{label}' holds NaN or infinity."
        if not vector.any():
            return f"The name of '{label}' is all zeros, which says nothing: leave it out."
    return "names holds no vector."


def unit_rows(x: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
    """Rows of length one, whatever their unit; those of zeros stay."""
    square = np.einsum("ij,ij->i", x, x)
    if not ((square > 1e-30) & (square < 1e30)).all():  # of zeros, or squares leave the range
        largest = np.abs(x).max(axis=1, keepdims=True, initial=0.0)
        x = x / np.where(largest > 0, largest, 1.0)
        square = np.einsum("ij,ij->i", x, x)
    return (x / np.sqrt(np.where(square > 0, square, 1.0))[:, None]).astype(dtype, copy=False)
