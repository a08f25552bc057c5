"""A scikit-learn classifier of frozen features, from names and from zero to many examples."""

from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from jaxmeta.embeddings import _explain, _past, _rows, _theta
from jaxmeta.embeddings._files import default_theta, load_theta, save_theta
from jaxmeta.embeddings._fit import Support, solve, support_of
from jaxmeta.embeddings._theta import Theta


class FewShotClassifier(ClassifierMixin, BaseEstimator):
    """Few-shot classification of frozen features, by examples, names of classes, or both.

    `fit` emits a linear head in closed form and a few steps, in a millisecond; what it needs to
    know beside the rows, such as how many rows a name is worth and how sure to be, are a handful of
    numbers that `meta_fit` learned from past classes. Without `meta_fit` those that ship are used,
    of sentences by intent; they do not depend on the number of features.

    Rows count by their direction from the centre of the task, not by their length.

    Args:
      density: the share of the weights that may be other than zero; None for all.
      level: how often sets are to hold the right class, and the share of rows of known classes that
        are not called strange.
      random_state: of the tasks that `meta_fit` draws.

    Attributes:
      classes_: labels in the order of the columns of `predict_proba`.
      n_features_in_: columns D of the rows.
      kernel_: the emitted weights `[C, D]`.
      origin_: from where directions are measured `[D]`.
      outlier_threshold_: beyond it, `outlier_score` says that a row may be of no class.

    Example:
      >>> import numpy as np
      >>> from jaxmeta.embeddings import FewShotClassifier
      >>> model = FewShotClassifier().fit([[1.0, 0.0], [0.0, 1.0]], ["east", "north"])
      >>> model.predict([[0.9, 0.2]]).tolist()
      ['east']
      >>> names = {"east": [1.0, 0.0], "north": [0.0, 1.0], "west": [-1.0, 0.0]}
      >>> model.fit(np.zeros((0, 2)), [], names).predict([[-0.7, 0.1]]).tolist()
      ['west']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "density": [Interval(Real, 0, 1, closed="right"), None],
        "level": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        density: float | None = None,
        level: float = 0.9,
        random_state: int | np.random.RandomState | None = 0,
    ):
        self.density = density
        self.level = level
        self.random_state = random_state

    def __sklearn_clone__(self) -> "FewShotClassifier":
        """A copy that is not fitted; what was learned from past classes goes with it."""
        copy = type(self)(**self.get_params())
        copy.__dict__.update({k: v for k, v in vars(self).items() if k in ("theta_", "about_")})
        return copy

    def meta_fit(
        self,
        X: Any,
        y: Any,
        names: Mapping[Any, Any] | None = None,
        *,
        num_steps: int = 600,
        noise: float = 0.8,
        verbose: bool = False,
    ) -> "FewShotClassifier":
        """Learn from past classes what `fit` needs to know; it takes minutes, once.

        Args:
          X: rows `[N, D]`.
          y: their labels `[N]`, of four classes or more with two rows or more each.
          names: vectors of the names by label, or None; also of some classes only.
          num_steps: outer steps.
          noise: how much harder than past classes new ones may be: the most that is added to the
            rows of a task, in units of their own spread. Zero for new classes of the same field;
            else probabilities are milder than they need be there, and right in others.
          verbose: whether to print how far it is.

        Raises:
          ValueError: for too few classes or rows, or what `fit` would not read either.
        """
        self._check_parameters()
        seed = self._seed()
        options = {"seed": seed, "num_steps": num_steps, "noise": noise, "verbose": verbose}
        self.theta_, self.about_ = _past.learn(self, X, y, names, **options)
        return self

    def fit(self, X: Any, y: Any, names: Mapping[Any, Any] | None = None) -> "FewShotClassifier":
        """Emit a head for new classes. A fit that fails leaves the model as it was.

        Args:
          X: rows `[N, D]`; `[0, D]` if all classes have names.
          y: their labels `[N]`.
          names: vectors of the names by label, or None. Labels that are here alone are classes
            without rows; a class with rows needs no name.

        Raises:
          ValueError: for one class only, rows that do not fit the labels, NaN, or names of a size
            that is not D, unless `meta_fit` read such names.
        """
        self._check_parameters()
        before = self.__dict__.copy()
        try:
            vectors = _rows.read_names(names)
            rows = _rows.read_rows(self, X, reset=True, may_be_empty=bool(vectors))
            labels = _rows.read_labels(y, len(rows))
            return self._join(support_of(self._theta(), rows, labels, vectors))
        except BaseException:
            self.__dict__ = before
            raise

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> "FewShotClassifier":
        """Let further rows join, as if `fit` had been given all; they may be of new classes.

        Args:
          X: rows `[N, D]`.
          y: their labels `[N]`.
          classes: for the convention of scikit-learn; a class is there once it has a row or name.

        Raises:
          ValueError: as `fit` does.
        """
        del classes
        self._check_parameters()
        if not hasattr(self, "_support"):
            return self.fit(X, y)
        rows = _rows.read_rows(self, X, reset=False)
        labels = _rows.read_labels(y, len(rows))
        return self._join(support_of(self._theta(), rows, labels, {}, before=self._support))

    def _join(self, support: Support) -> "FewShotClassifier":
        """Solve for a support set, and keep it for rows to come."""
        head = solve(self._theta().head, support, self.density)
        self._support, self.classes_ = support, support.classes
        self.kernel_ = head.kernel.astype(np.float64)
        self.origin_ = head.origin.astype(np.float64)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits `[N, C]`; of two classes, the log-odds of the second `[N]`."""
        z = self._logits(X)
        return z[:, 1] - z[:, 0] if len(self.classes_) == 2 else z

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities `[N, C]`, in the order of `classes_`."""
        return _theta.softmax(self._logits(X))

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row `[N]`."""
        z = self._logits(X)
        return self.classes_[z.argmax(axis=1)]

    def predict_set(self, X: Any, level: float | None = None) -> np.ndarray:
        """Which classes cannot be excluded, bool `[N, C]`, never none of them.

        The likeliest classes that together have the probability `level`, or more, if held-out past
        classes needed more for it: then sets hold the right class as often as `level` says, over
        new tasks that are like past ones.

        Args:
          X: rows `[N, D]`.
          level: another one than that of the constructor.

        Raises:
          ValueError: for a level outside of 0..1.
        """
        if level is not None and not 0 < level < 1:
            raise ValueError(f"A level is between 0 and 1, got {level}.")
        z = self._logits(X)
        return _theta.mass_before(z) <= self._mass(self.level if level is None else level)

    def outlier_score(self, X: Any) -> np.ndarray:
        """How strange each row is `[N]`: beyond `outlier_threshold_` it may be of no class."""
        return _theta.strangeness(self._logits(X))

    @property
    def outlier_threshold_(self) -> float:
        """What a share `level` of the rows of held-out past classes stayed below."""
        check_is_fitted(self, "kernel_")
        calibration = self._theta().calibration
        table = calibration.strangeness
        return _theta.threshold(table, calibration, self._support.shots, self.level)

    def explain(self) -> str:
        """What the head rests on, a line a class: its rows, its neighbour, its heaviest weights."""
        check_is_fitted(self, "kernel_")
        return _explain.page(self.classes_, self.kernel_, self._support)

    def export(self, path: Path | str) -> None:
        """Write a Python file that predicts with NumPy alone, and holds none of the rows."""
        from jaxmeta.embeddings._export import write_module

        check_is_fitted(self, "kernel_")
        thresholds = {"mass": self._mass(self.level), "stranger": self.outlier_threshold_}
        write_module(path, self.kernel_, self.origin_, self.classes_, **thresholds)

    def save_theta(self, path: Path | str) -> None:
        """Write what `meta_fit` learned as a checkpoint."""
        save_theta(path, self._theta(), getattr(self, "about_", {}))

    def load_theta(self, path: Path | str) -> "FewShotClassifier":
        """Read what `save_theta` wrote, in the place of `meta_fit`."""
        self.theta_, self.about_ = load_theta(path)
        return self

    def _check_parameters(self) -> None:
        """Refuse parameters that mean nothing, once."""
        given = (self.density, self.level, self.random_state)
        if given != getattr(self, "_checked", None):
            self._validate_params()
            self._checked = given

    def _theta(self) -> Theta:
        return self.theta_ if hasattr(self, "theta_") else default_theta()

    def _mass(self, level: float) -> float:
        calibration = self._theta().calibration
        needed = _theta.threshold(calibration.mass, calibration, self._support.shots, level)
        return max(level, needed)

    def _logits(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "kernel_")
        x = _rows.unit_rows(_rows.read_rows(self, X, reset=False), np.float64)
        return _rows.unit_rows(x - self.origin_, np.float64) @ self.kernel_.T

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31))
