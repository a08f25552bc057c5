"""A scikit-learn classifier whose `fit` is one forward pass of a pre-trained meta-net."""

from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from jaxmeta.tabular._arrays import MOST_CLASSES
from jaxmeta.tabular.estimator import _explain, _export, _input, _reduction
from jaxmeta.tabular.estimator._attribution import nearest_rows, shares
from jaxmeta.tabular.estimator._certificate import Certificate, certify
from jaxmeta.tabular.estimator._compress import compress
from jaxmeta.tabular.estimator._model import log_odds, probabilities, standardise
from jaxmeta.tabular.estimator._pretrained import emit
from jaxmeta.tabular.estimator._terms import live_terms
from jaxmeta.tabular.estimator._weights import (
    log_class_weights,
    rows_that_weigh,
    sample_rows,
    shifted,
    shifts,
)


class MetaClassifier(ClassifierMixin, BaseEstimator):
    """Classification of small tables by an emitted sparse linear model.

    A meta-net that was trained on synthetic tables reads the rows and emits, in one forward pass,
    a model that is linear in a fixed dictionary of terms (`meta_net.tabular`). It was trained for
    tables of up to 256 rows, 20 columns and 5 classes: of more rows it reads a
    stratified sample, of more columns those that tell most of the classes one by one, and a
    warning says so; more classes are told apart one against the rest. It computes with NumPy alone,
    from any thread or process, in milliseconds.

    X is a frame of pandas, polars or pyarrow, an array, a list or a sparse matrix. Numbers, also as
    text, are numbers; dates count as seconds since 1970, lengths of time as seconds, categories
    with an order as their places in it; other text and categories are names. None, NaN, NaT,
    `pandas.NA` and blank text are missing. What is none of this is refused by the name of its
    column. To predict, a frame may have its columns in any order; a name that `fit` did not see is
    no level, and an array of numbers holds the places of names among the sorted ones.

    Args:
      n_nonzero: terms that the model may have; None for all of them. For more than two classes a
        term has a weight for each class but the first.
      categorical_features: which columns hold names without order: by name, by index, or a mask;
        text and unordered categories of a frame are always taken as such.
      class_weight: weights of the classes by label, or "balanced" for the same sum for each; they
        shift the log-odds by Bayes' rule.
      random_state: draws the sample of rows, if there are too many.

    Attributes:
      classes_: labels in the order of the columns of `predict_proba`.
      n_features_in_: columns D that `fit` had.
      feature_names_in_: their names, if X was a frame whose names are text.
      feature_importances_: of the weights of all terms, the share of each column `[D]`.
      columns_: indices of the columns that were read.
      emitted_: what the meta-net emitted: one `w`, or one for each class against the rest.
      models_: the same as the few arrays that `predict` needs.

    Example:
      >>> from sklearn.datasets import load_iris
      >>> X, y = load_iris(return_X_y=True)
      >>> bool(MetaClassifier(n_nonzero=12).fit(X[::2], y[::2]).score(X[1::2], y[1::2]) > 0.9)
      True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_nonzero": [Interval(Integral, 1, None, closed="left"), None],
        "categorical_features": ["array-like", str, Integral, None],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_nonzero: int | None = None,
        *,
        categorical_features: Sequence[str] | Sequence[int] | Sequence[bool] | None = None,
        class_weight: dict[Any, float] | str | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ):
        self.n_nonzero = n_nonzero
        self.categorical_features = categorical_features
        self.class_weight = class_weight
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "MetaClassifier":
        """Emit a model from the rows. A fit that fails leaves the model as it was.

        Args:
          X: rows `[N, D]`.
          y: their labels `[N]`.
          sample_weight: of the rows `[N]`. A whole number stands for as many copies; other weights
            say how often a row is among the N that the meta-net reads.

        Raises:
          TypeError: for cells that are no values, such as lists; it names the column.
          ValueError: for a parameter out of its range, one class only, labels that are missing, or
            a column that cannot be read; it names the column.
        """
        before = self.__dict__.copy()
        try:
            return self._fit(X, y, sample_weight)
        except BaseException:
            self.__dict__ = before
            raise

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> "MetaClassifier":
        x, self._columns = _input.read_table(self, X, self.categorical_features)
        labels = _input.read_labels(y)
        origin, weights = rows_that_weigh(sample_weight, x, labels)
        x, labels = x[origin], labels[origin]
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"MetaClassifier needs rows of two classes or more, got one class, {self.classes_}."
            )
        rows = sample_rows(codes, weights, self._seed())
        # In an order of their own, so that the order that they had changes nothing.
        rows = rows[np.lexsort((*x[rows].T, codes[rows]))]
        log_weights = log_class_weights(self.class_weight, self.classes_, codes, weights)
        self._read(x[rows], codes[rows], log_weights)
        landmarks = [nearest_rows(model, x[rows]) for model in self.models_]
        self._landmark_rows = [origin[rows[each]].tolist() for each in landmarks]
        self._plain_width = _input.width_of_plain_arrays(self, self._columns)
        _reduction.warn_of_what_is_left_out(len(np.unique(rows)), len(self.columns_), *x.shape)
        return self

    def _read(self, x: np.ndarray, y: np.ndarray, log_weights: np.ndarray) -> None:
        """Emit models of rows `x [S, D]` with the codes `y [S]` of classes of such weights."""
        categorical = np.array([each.kind == "name" for each in self._columns])
        self.columns_ = _reduction.choose_columns(x, y, categorical)
        self._units = _reduction.choose_units(x, self.columns_, categorical)
        table = standardise(x[:, self.columns_], self._units.centre, self._units.scale)
        classes = range(len(log_weights))
        targets = [y] if len(classes) <= MOST_CLASSES else [y == c for c in classes]
        self.emitted_ = [
            emit(
                table,
                each.astype(int),
                categorical[self.columns_],
                _reduction.num_terms(self.n_nonzero, len(self.columns_)),
            )
            for each in targets
        ]
        self._shifts = shifts(log_weights, y, len(targets))
        self.models_ = [
            shifted(compress(w, self._units, len(shift)), shift)
            for w, shift in zip(self.emitted_, self._shifts, strict=True)
        ]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities `[N, C]`."""
        x = self._rows(X)
        return probabilities(self.models_, x)

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row `[N]`."""
        p = self.predict_proba(X)
        return self.classes_[p.argmax(axis=1)]

    def decision_function(self, X: Any) -> np.ndarray:
        """Log-odds of the second class `[N]`; of more classes, logits `[N, C]`."""
        x = self._rows(X)
        result = log_odds(self.models_, x)
        return result[:, 1] if len(self.classes_) == 2 else result

    @property
    def feature_importances_(self) -> np.ndarray:
        """Of the weights of all terms, the share of each column `[D]`."""
        check_is_fitted(self)
        return shares(self.emitted_, self.columns_, self.n_features_in_)

    def explain(self, *, plot: Path | str | None = None) -> str:
        """The emitted model as text, a line a term, the heaviest first; and as a bar chart.

        A weight is what one standard deviation of its term adds to the log-odds. Of more than five
        classes each has a page, and a panel, of its own: that class against the rest.

        Args:
          plot: a PNG to draw as well; needs matplotlib.
        """
        check_is_fitted(self)
        pages = [self._page(c) for c in range(len(self.emitted_))]
        if plot is not None:
            _explain.draw(pages, plot)
        return "\n\n".join(map(_explain.as_text, pages))

    def export(self, path: Path | str) -> None:
        """Write the model as a Python file that needs NumPy alone.

        It has `predict_proba(x)` and `predict(x)` for what `predict` of the model takes, but sparse
        matrices, and the names of the columns, their levels and the labels as constants.
        """
        check_is_fitted(self)
        named = hasattr(self, "feature_names_in_")
        _export.write_module(self.models_, self._columns, self.classes_, path, named=named)

    def certificate(self, X: Any, y: Any, *, confidence: float = 0.95) -> Certificate:
        """Bound the error on new rows, from the rows of the fit.

        A fit reads 256 rows at most; the others are a test that it has not seen, and the bound is
        Clopper and Pearson's. A fit to fewer rows read all of them: its bound is 1, and says so.

        Args:
          X: the rows that `fit` had.
          y: their labels.
          confidence: that the bound holds, for rows drawn independently from one source.

        Raises:
          ValueError: for other rows than those of `fit`, weighted ones, or a confidence outside of
            0..1.
        """
        check_is_fitted(self)
        return certify(self, X, y, confidence)

    def _page(self, c: int) -> _explain.Page:
        """What is to say of one emitted model."""
        w, shift = self.emitted_[c], self._shifts[c]
        read = [self._columns[index] for index in self.columns_]
        terms = live_terms(w, read, self._units, self._landmark_rows[c], len(shift))
        classes = self.classes_ if len(self.emitted_) == 1 else ["rest", self.classes_[c]]
        bias = np.asarray(w.bias)[: len(shift) - 1] + shift[1:]
        return _explain.Page(terms, bias, list(classes))

    def _rows(self, X: Any) -> np.ndarray:
        # The checks take longer than the model.
        if _input.is_plain(X, getattr(self, "_plain_width", None)):
            return X
        check_is_fitted(self)
        return _input.read_rows(self, X, self._columns)

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31))
