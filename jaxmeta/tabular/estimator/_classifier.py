"""A scikit-learn classifier whose `fit` is one forward pass of a pre-trained meta-net."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import OrdinalEncoder
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from jaxmeta.tabular._arrays import MOST_CLASSES
from jaxmeta.tabular.estimator import _explain
from jaxmeta.tabular.estimator._compress import compress
from jaxmeta.tabular.estimator._model import TableModel, outputs, probabilities
from jaxmeta.tabular.estimator._pretrained import emit
from jaxmeta.tabular.estimator._reduction import choose_columns, choose_rows

_LARGEST = np.finfo(np.float32).max
_UNSEEN = -2  # the code of a name that `fit` did not see: it is no level


class MetaClassifier(ClassifierMixin, BaseEstimator):
    """Classification of small tables by an emitted sparse linear model.

    A meta-net that was trained on synthetic tables reads the rows and emits, in one forward pass,
    a model that is linear in a fixed dictionary of terms (`meta_net.tabular`). It was trained for
    tables of up to 256 rows, 20 columns and 5 classes: of more rows it reads a
    stratified sample, of more columns those that tell most of the classes one by one, and a
    warning says so; more classes are told apart one against the rest. It computes with NumPy alone,
    from any thread or process, in milliseconds.

    Args:
      n_nonzero: terms that the model may have; None for all of them. For more than two classes a
        term has a weight for each class but the first.
      categorical_features: which columns hold codes 0, 1, ... without order: indices or a mask;
        the columns of a pandas frame that are not numbers are always taken as such.
      random_state: draws the sample of rows, if there are too many.

    Attributes:
      classes_: labels in the order of the columns of `predict_proba`.
      columns_: indices of the columns that were read.
      emitted_: what the meta-net emitted: one `w`, or one for each class against the rest.
      models_: the same as the few arrays that `predict` needs.
    """

    def __init__(
        self,
        n_nonzero: int | None = None,
        *,
        categorical_features: Sequence[int] | Sequence[bool] | None = None,
        random_state: int = 0,
    ):
        self.n_nonzero = n_nonzero
        self.categorical_features = categorical_features
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def fit(self, X: Any, y: Any) -> "MetaClassifier":
        """Emit a model from the rows.

        Raises:
          ValueError: for one class only, or a bound on the terms below 1.
        """
        if self.n_nonzero is not None and self.n_nonzero < 1:
            raise ValueError(f"n_nonzero must be 1 or more, or None, got {self.n_nonzero}.")
        self._names = _names_of_text(X)
        if self._names:
            self._encoder = OrdinalEncoder(
                handle_unknown="use_encoded_value", unknown_value=_UNSEEN
            ).fit(X[self._names])
        x, y = validate_data(
            self, self._numbers(X), y, dtype=np.float32, ensure_all_finite="allow-nan"
        )
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"MetaClassifier needs rows of two classes or more, got one class, {self.classes_}."
            )
        categorical = self._categorical(X)
        rows = choose_rows(codes, self.random_state)
        self.columns_ = choose_columns(x[rows], codes[rows], categorical)
        self._warn_of_what_is_left_out(x, rows)
        table, codes = x[np.ix_(rows, self.columns_)], codes[rows]
        one_model = len(self.classes_) <= MOST_CLASSES
        targets = [codes] if one_model else [codes == c for c in range(len(self.classes_))]
        self.emitted_ = [
            emit(table, target.astype(int), categorical[self.columns_], self.n_nonzero or 0)
            for target in targets
        ]
        self.models_ = [
            compress(w, columns=self.columns_, num_features=x.shape[1], num_classes=self._ways())
            for w in self.emitted_
        ]
        self._landmark_rows = [self._nearest(model, x, rows) for model in self.models_]
        self._plain_width = None if hasattr(self, "feature_names_in_") else x.shape[1]
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities `[N, C]`."""
        if not self._needs_no_check(X):
            check_is_fitted(self)
            X = validate_data(
                self, self._numbers(X), dtype=np.float32, ensure_all_finite="allow-nan", reset=False
            )
        return probabilities(self.models_, X)

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row `[N]`."""
        p = self.predict_proba(X)
        return self.classes_[p.argmax(axis=1)]

    def explain(self, *, plot: Path | str | None = None) -> str:
        """The emitted model as text, a line a term, the heaviest first; and as a bar chart.

        A weight is what one standard deviation of its term adds to the log-odds.

        Args:
          plot: a PNG to draw as well; needs matplotlib.
        """
        check_is_fitted(self)
        pages = []
        for c, (terms, w) in enumerate(zip(self._terms(), self.emitted_, strict=True)):
            classes = self.classes_ if len(self.emitted_) == 1 else ["rest", self.classes_[c]]
            bias = np.asarray(w.bias)[: len(classes) - 1]
            pages.append(_explain.as_text(terms, bias, list(classes)))
            if plot is not None and c == 0:
                _explain.draw(terms, list(classes), plot)
        return "\n\n".join(pages)

    def export(self, path: Path | str) -> None:
        """Write the model as a Python file that needs NumPy alone.

        It has `predict_proba(x)` and `predict(x)` for `x [N, D]`: the columns that `fit` had, NaN
        where missing, names as the codes that sorting gives them.
        """
        check_is_fitted(self)
        _explain.write_module(self.models_, self.classes_.tolist(), path)

    def _ways(self) -> int:
        return len(self.classes_) if len(self.classes_) <= MOST_CLASSES else 2

    def _numbers(self, X: Any) -> Any:
        """The same, columns of text as codes, None and NaN as NaN."""
        if not self._names or not hasattr(X, "columns"):
            return X
        codes = self._encoder.transform(X[self._names])
        return X.assign(**dict(zip(self._names, codes.T, strict=True)))

    def _categorical(self, X: Any) -> np.ndarray:
        """Which columns hold codes, bool `[D]`."""
        mask = np.zeros(self.n_features_in_, bool)
        if self.categorical_features is not None and len(self.categorical_features):
            mask[np.asarray(self.categorical_features)] = True
        if self._names:
            mask |= np.isin(np.asarray(X.columns), self._names)
        return mask

    def _warn_of_what_is_left_out(self, x: np.ndarray, rows: np.ndarray) -> None:
        if len(rows) < len(x) or len(self.columns_) < x.shape[1]:
            warnings.warn(
                f"MetaClassifier reads {len(rows)} of {len(x)} rows and {len(self.columns_)} of "
                f"{x.shape[1]} columns: its meta-net was trained for no more.",
                stacklevel=3,
            )

    def _needs_no_check(self, X: Any) -> bool:
        """Whether scikit-learn's checks, which take longer than the model, would find nothing."""
        return (
            type(X) is np.ndarray
            and X.dtype.kind == "f"
            and X.ndim == 2
            and len(X) > 0
            and X.shape[1] == getattr(self, "_plain_width", None)
            # Nothing is infinite; where something is missing, that takes another look.
            and (abs(np.add.reduce(X, None, float)) < _LARGEST or not (np.abs(X) > _LARGEST).any())
        )

    def _nearest(self, model: TableModel, x: np.ndarray, rows: np.ndarray) -> list[int]:
        """Which row of `fit` each live landmark is."""
        points = outputs(model, x[rows])[:, model.bumps.shape[1] :]
        gaps = ((points[:, None] - model.landmarks[None]) ** 2).sum(axis=2)
        return rows[gaps.argmin(axis=0)].tolist()

    def _terms(self) -> list[list[_explain.Term]]:
        names = getattr(self, "feature_names_in_", None)
        names = [f"x{c}" if names is None else names[c] for c in self.columns_]
        stands_for = self._encoder.categories_ if self._names else []
        levels = dict(zip(self._names, stands_for, strict=True))
        return [
            _explain.live_terms(w, names, [levels.get(name) for name in names], rows, self._ways())
            for w, rows in zip(self.emitted_, self._landmark_rows, strict=True)
        ]


def _names_of_text(X: Any) -> list[str]:
    """Columns of a pandas frame that are not numbers."""
    if not hasattr(X, "columns"):
        return []
    return [name for name, kind in zip(X.columns, X.dtypes, strict=True) if not _is_number(kind)]


def _is_number(kind: Any) -> bool:
    return getattr(kind, "kind", "O") in "biuf"
