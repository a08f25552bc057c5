"""What practitioners run on frozen features: logistic regression, fitted anew to every task."""

from typing import NamedTuple

import jax
import numpy as np

from jaxmeta.types import Sampler


class Answers(NamedTuple):
    """Probabilities `[T, Q, C]` of the query rows of T tasks, and their classes `[T, Q]`."""

    probabilities: np.ndarray
    y: np.ndarray

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Those of all tasks, one after the other."""
        return self.probabilities.reshape(-1, self.probabilities.shape[-1]), self.y.ravel()


def logistic_regression(sampler: Sampler, keys: jax.Array, *, strength: float) -> Answers:
    """Logistic regression on the support rows of the tasks of some keys; scikit-learn's C.

    Raises:
      ImportError: without scikit-learn.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise ImportError(
            "The baselines need scikit-learn: pip install 'jaxmeta[sklearn]'."
        ) from error
    draw, probabilities, classes = jax.jit(sampler), [], []
    for each in keys:
        task = jax.device_get(draw(each))
        real = task.support.mask == 1
        model = LogisticRegression(C=strength, max_iter=1000)
        model.fit(task.support.x[real], task.support.y[real])
        probabilities.append(model.predict_proba(task.query.x))
        classes.append(task.query.y)
    return Answers(np.stack(probabilities), np.stack(classes))


def mass_sets(answers: Answers, level: float) -> np.ndarray:
    """The likeliest classes of each row that together have the probability `level`, `[T, Q, C]`."""
    order = np.argsort(-answers.probabilities, axis=-1)
    ranked = np.take_along_axis(answers.probabilities, order, axis=-1)
    needed = np.cumsum(ranked, axis=-1) - ranked < level
    return np.take_along_axis(needed, np.argsort(order, axis=-1), axis=-1)
