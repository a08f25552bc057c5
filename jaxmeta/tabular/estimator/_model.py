"""An emitted model as a few NumPy arrays, and its predictions. Needs NumPy and nothing else.

Every term of a numeric column is a sum of ramps `clip(slope * (x - middle), -1/2, 1/2)`; so is
every level of a categorical one, by ramps that are steps; and a landmark is near or far in
coordinates that are sums of ramps again. So the scores and the coordinates of a row are one matrix
product of its ramps.
"""

from typing import NamedTuple

import numpy as np

_HIGHEST = 300.0  # log-odds beyond which exp would come near its end


class TableModel(NamedTuple):
    """J ramps, P coordinates, L landmarks, O = C + P outputs, D features.

    Attributes:
      columns: the feature of each ramp `[J]`.
      middle: where a ramp is zero `[J]`.
      slope: of each ramp `[J]`.
      weights: from ramps to outputs `[J, O]`.
      complete: the constant of the outputs where no value is missing `[O]`.
      missing: what a missing value adds `[D, O]`.
      landmarks: in coordinates `[L, P]`.
      bumps: from bumps to scores `[L, C]`.
    """

    columns: np.ndarray
    middle: np.ndarray
    slope: np.ndarray
    weights: np.ndarray
    complete: np.ndarray
    missing: np.ndarray
    landmarks: np.ndarray
    bumps: np.ndarray


def outputs(model: TableModel, x: np.ndarray) -> np.ndarray:
    """Scores before bumps, and coordinates, `[N, O]`, of rows `x [N, D]`, NaN where missing."""
    # The meta-net saw single precision: what equals a quantile or a code there has to here.
    ramps = x.astype(np.float32).take(model.columns, axis=1) - model.middle
    ramps *= model.slope
    np.maximum(ramps, -0.5, out=ramps)
    np.minimum(ramps, 0.5, out=ramps)
    # One number says whether any is missing.
    total = np.add.reduce(x, None, float)
    if total == total:
        return ramps @ model.weights + model.complete
    lost = x != x
    ramps[lost[:, model.columns]] = 0.0
    return ramps @ model.weights + model.complete + lost @ model.missing


def scores(model: TableModel, x: np.ndarray) -> np.ndarray:
    """Logits `[N, C]`, those of class 0 zero, of rows `x [N, D]`, NaN where missing."""
    result = outputs(model, x)
    if not len(model.landmarks):
        return result
    num_classes = model.bumps.shape[1]
    gaps = result[:, None, num_classes:] - model.landmarks
    gaps *= gaps
    bumps = np.exp(-np.add.reduce(gaps, axis=2))
    return result[:, :num_classes] + bumps @ model.bumps


def probabilities(models: list[TableModel], x: np.ndarray) -> np.ndarray:
    """Probabilities `[N, C]` of rows `x [N, D]`, by one model or one a class against the rest."""
    odds = [np.exp(np.minimum(scores(model, x), _HIGHEST)) for model in models]
    if len(odds) == 1:
        p = odds[0]
    else:
        p = np.stack([each[:, 1] / (1.0 + each[:, 1]) for each in odds], axis=1)
    return p / np.add.reduce(p, axis=1, keepdims=True)
