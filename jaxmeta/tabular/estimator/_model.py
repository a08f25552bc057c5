"""An emitted model as a few NumPy arrays, and its predictions. Needs NumPy and nothing else.

Every term of a numeric column is a sum of ramps `clip(slope * (u - middle), -1/2, 1/2)` of its
standardised value u; so is every level of a categorical one, by ramps that are steps; and a
landmark is near or far in coordinates that are sums of ramps again. So the scores and the
coordinates of a row are one matrix product of its ramps.
"""

from typing import Any, NamedTuple

import numpy as np

_HIGHEST = 300.0  # log-odds beyond which exp would come near its end
_FARTHEST = 1e6  # units at which a value stops, so that sums of squares stay within float32
_PIECE = 2048  # rows that are predicted at once, so that memory does not grow with them


class TableModel(NamedTuple):
    """K columns, J ramps, P coordinates, L landmarks, O = C + P outputs.

    Attributes:
      features: which feature of a row each column is `[K]`.
      centre: what is taken from a column `[K]`, in double precision.
      scale: what it is divided by then `[K]`.
      columns: the column of each ramp `[J]`.
      middle: where a ramp is zero `[J]`.
      slope: of each ramp `[J]`.
      weights: from ramps to outputs `[J, O]`.
      complete: the constant of the outputs where no value is missing `[O]`.
      missing: what a missing value adds `[K, O]`.
      landmarks: in coordinates `[L, P]`.
      bumps: from bumps to scores `[L, C]`.
    """

    features: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    columns: np.ndarray
    middle: np.ndarray
    slope: np.ndarray
    weights: np.ndarray
    complete: np.ndarray
    missing: np.ndarray
    landmarks: np.ndarray
    bumps: np.ndarray


def standardise(x: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """What the meta-net reads: columns in their units, centred before they are rounded."""
    farthest = _FARTHEST * scale
    u = x - centre
    np.maximum(u, -farthest, out=u)
    np.minimum(u, farthest, out=u)
    u /= scale
    return u.astype(np.float32)


def outputs(model: TableModel, x: np.ndarray) -> np.ndarray:
    """Scores before bumps, and coordinates, `[N, O]`, of rows `x [N, D]`, NaN where missing."""
    u = standardise(x.take(model.features, axis=1), model.centre, model.scale)
    # The meta-net saw single precision: what equals a quantile or a code there has to here.
    ramps = u.take(model.columns, axis=1) - model.middle
    ramps *= model.slope
    np.maximum(ramps, -0.5, out=ramps)
    np.minimum(ramps, 0.5, out=ramps)
    # One number says whether any is missing.
    total = np.add.reduce(u, None)
    if total == total:
        return ramps @ model.weights + model.complete
    lost = u != u
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
    if len(x) > _PIECE:
        return _in_pieces(probabilities, models, x)
    odds = [np.exp(np.minimum(scores(model, x), _HIGHEST)) for model in models]
    if len(odds) == 1:
        p = odds[0]
    else:
        p = np.stack([each[:, 1] / (1.0 + each[:, 1]) for each in odds], axis=1)
    return p / np.add.reduce(p, axis=1, keepdims=True)


def log_odds(models: list[TableModel], x: np.ndarray) -> np.ndarray:
    """Logits `[N, C]` of rows `x [N, D]`, of which `probabilities` is the softmax."""
    if len(x) > _PIECE:
        return _in_pieces(log_odds, models, x)
    if len(models) == 1:
        return scores(models[0], x)
    return np.stack([-np.logaddexp(0.0, -scores(model, x)[:, 1]) for model in models], axis=1)


def _in_pieces(function: Any, models: list[TableModel], x: np.ndarray) -> np.ndarray:
    pieces = [x[start : start + _PIECE] for start in range(0, len(x), _PIECE)]
    return np.concatenate([function(models, piece) for piece in pieces])
