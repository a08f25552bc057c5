"""An emitted model as a few NumPy arrays, and its predictions. Needs NumPy and nothing else.

Every term of a numeric column is a sum of ramps `clip(slope * (x - low) + offset, 0, 1)`, every
level an equality, every landmark a distance in coordinates that are sums of these again. So the
scores and the coordinates of a row are one matrix product of its ramps and equalities.
"""

from typing import NamedTuple

import numpy as np

_HIGHEST = 300.0  # log-odds beyond which exp would come near its end


class TableModel(NamedTuple):
    """J ramps, K equalities, P coordinates, L landmarks, O = C - 1 + P outputs, D columns.

    Attributes:
      columns: the column of each ramp and then of each equality `[J + K]`.
      low: where a ramp begins, or the code of a level `[J + K]`.
      slope: of each ramp `[J]`.
      offset: of each ramp `[J]`; half for a step.
      weights: from ramps and equalities to outputs `[J + K, O]`.
      complete: the constant of the outputs where no value is missing `[O]`.
      missing: what a missing value adds `[D, O]`.
      landmarks: in coordinates `[L, P]`.
      bumps: from bumps to contrasts `[L, C - 1]`.
    """

    columns: np.ndarray
    low: np.ndarray
    slope: np.ndarray
    offset: np.ndarray
    weights: np.ndarray
    complete: np.ndarray
    missing: np.ndarray
    landmarks: np.ndarray
    bumps: np.ndarray


def outputs(model: TableModel, x: np.ndarray) -> np.ndarray:
    """Contrasts before bumps, and coordinates, `[N, O]`, of rows `x [N, D]`, NaN where missing."""
    num_ramps = len(model.slope)
    # The meta-net saw single precision: what equals a quantile or a code there has to here.
    values = x.astype(np.float32)[:, model.columns] - model.low
    features = values[:, :num_ramps] * model.slope + model.offset
    features = np.minimum(np.maximum(features, 0.0), 1.0)
    if num_ramps < len(model.low):
        features = np.concatenate([features, values[:, num_ramps:] == 0.0], axis=1)
    lost = x != x
    if not np.logical_or.reduce(lost, axis=None):
        return features @ model.weights + model.complete
    features[lost[:, model.columns]] = 0.0
    return features @ model.weights + model.complete + lost @ model.missing


def scores(model: TableModel, x: np.ndarray) -> np.ndarray:
    """Logits against class 0, `[N, C - 1]`, of rows `x [N, D]`, NaN where missing."""
    result = outputs(model, x)
    if not len(model.landmarks):
        return result
    num_contrasts = model.bumps.shape[1]
    gaps = result[:, None, num_contrasts:] - model.landmarks
    bumps = np.exp(-0.5 * np.add.reduce(gaps * gaps, axis=2))
    return result[:, :num_contrasts] + bumps @ model.bumps


def probabilities(models: list[TableModel], x: np.ndarray) -> np.ndarray:
    """Probabilities `[N, C]` of rows `x [N, D]`, by one model or one a class against the rest."""
    odds = [np.exp(np.minimum(scores(model, x), _HIGHEST)) for model in models]
    if len(odds) == 1:
        p = np.concatenate([np.ones((len(x), 1)), odds[0]], axis=1)
    else:
        p = np.concatenate([each / (1.0 + each) for each in odds], axis=1)
    return p / np.add.reduce(p, axis=1, keepdims=True)
