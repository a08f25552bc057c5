"""Which columns an emitted model rests on, and which rows its landmarks are."""

from collections.abc import Sequence

import numpy as np

from jaxmeta.tabular._arrays import TERMS, EmittedTable
from jaxmeta.tabular.estimator._model import TableModel, outputs


def shares(emitted: Sequence[EmittedTable], features: np.ndarray, num_features: int) -> np.ndarray:
    """Of the weights of all terms, the share of each feature `[D]`; sums to one, if there are any.

    Terms have variance one, so weights compare. What a landmark weighs goes to the columns in
    which nearness to it is measured.

    Args:
      emitted: what `adapt` emitted, one model or one for each class against the rest.
      features: which feature each of their K columns is.
      num_features: features D.
    """
    result = np.zeros(num_features)
    for w in emitted:
        weights = np.abs(np.asarray(w.kernel, np.float64)).sum(axis=1)
        size, num_terms = len(w.dictionary.metric), len(w.dictionary.mean)
        nearness = np.square(np.asarray(w.dictionary.metric, np.float64))
        nearness = nearness.reshape(-1, TERMS).sum(axis=1)
        nearness = nearness / max(nearness.sum(), 1e-30)
        columns = weights[:size].reshape(-1, TERMS).sum(axis=1) + weights[num_terms:]
        columns = columns + weights[size:num_terms].sum() * nearness
        result[features] += columns[: len(features)]
    return result / (result.sum() or 1.0)


def nearest_rows(model: TableModel, x: np.ndarray) -> np.ndarray:
    """Which of the rows `x [S, D]` of `fit` each live landmark is, the first of those alike."""
    points = outputs(model, x)[:, model.bumps.shape[1] :]
    gaps = ((points[:, None] - model.landmarks[None]) ** 2).sum(axis=2)
    return gaps.argmin(axis=0)
