"""What the rows of a fit say about rows to come: those that it did not read are a test of it."""

import warnings
from typing import Any, NamedTuple

import numpy as np
from scipy import special
from sklearn.base import clone

from jaxmeta.tabular.estimator import _input
from jaxmeta.tabular.estimator._reduction import choose_rows


class Certificate(NamedTuple):
    """The most that the error of a model on new rows is, at a confidence.

    Attributes:
      bound: on the share of new rows that it is wrong on; 1.0 says nothing.
      error: of the rows that the fit had and did not read; NaN if it read all.
      num_rows: so many.
      confidence: that the bound holds.
    """

    bound: float
    error: float
    num_rows: int
    confidence: float

    def __str__(self) -> str:
        if not self.num_rows:
            return (
                "The fit read all of its rows: none is left that says how it does on others "
                "(no bound below 1)."
            )
        return (
            f"Wrong on at most {100 * self.bound:.1f}% of new rows, with {self.confidence:.0%} "
            f"confidence: on {100 * self.error:.1f}% of the {self.num_rows} rows not read."
        )


def certify(model: Any, X: Any, y: Any, confidence: float) -> Certificate:
    """The certificate of a fitted classifier from the rows that it was fitted to."""
    if not 0 < confidence < 1:
        raise ValueError(f"A confidence is between 0 and 1, got {confidence}.")
    if isinstance(model.class_weight, str):
        raise ValueError(
            "Weights that are balanced by the classes of all rows leave no row out: there is no "
            "certificate with class_weight='balanced'."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is left out was told by the fit itself
        again = clone(model).fit(X, y)
    if not _same(model, again):
        raise ValueError(
            "certificate reads the rows that fit had, X and y as they were, without sample_weight "
            "and with random_state as a whole number: a fit to these gives another model."
        )
    labels = _input.read_labels(y)
    read = choose_rows(np.searchsorted(model.classes_, labels), model.random_state)
    unread = np.setdiff1d(np.arange(len(labels)), read)
    if not len(unread):
        return Certificate(1.0, float("nan"), 0, confidence)
    wrong = int((model.predict(X) != labels)[unread].sum())
    bound = 1.0
    if wrong < len(unread):
        bound = float(special.betaincinv(wrong + 1, len(unread) - wrong, confidence))
    return Certificate(bound, wrong / len(unread), len(unread), confidence)


def _same(one: Any, other: Any) -> bool:
    """Whether two fits emitted the same."""
    if not np.array_equal(one.classes_, other.classes_):
        return False
    arrays = ([leaf for model in each.models_ for leaf in model] for each in (one, other))
    return all(map(np.array_equal, *arrays))
