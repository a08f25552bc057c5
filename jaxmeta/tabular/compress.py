"""From what the meta-net emits to a `TableModel`: only what live terms need is kept."""

from typing import Any

import jax
import numpy as np

from jaxmeta.learners.tabular import EmittedTable
from jaxmeta.learners.tabular.dictionary import FARTHEST, HINGES, LEVELS, SCORES, TERMS
from jaxmeta.tabular.model import TableModel

_STEP = 1e30
"""Slope of a ramp that is a step."""

_CODE_EDGE = 1e-6  # how near to a code a value is that code


def compress(
    w: EmittedTable, *, columns: np.ndarray, num_features: int, num_classes: int
) -> TableModel:
    """The arrays that predict as `w` does.

    Args:
      w: as emitted, arrays of NumPy or JAX.
      columns: which feature each of its columns is; those after them are padding.
      num_features: features D of the rows to predict.
      num_classes: classes C, the first ones of the padded.
    """
    dictionary: Any = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), w.dictionary)
    size = len(dictionary.metric)
    # Class 0 has the score zero.
    kernel = np.pad(np.asarray(w.kernel, np.float64)[:, : num_classes - 1], ((0, 0), (1, 0)))
    kernel, of_contrasts = np.split(kernel, [len(dictionary.mean)])
    of_levels = kernel[:size].reshape(-1, TERMS, num_classes)[:, :LEVELS]
    of_levels += np.asarray(w.contrasts)[..., None] * of_contrasts[:, None]
    live = np.flatnonzero(kernel[size:].any(axis=1))
    # A bump is exp(-|gap|^2) in these coordinates.
    metric = dictionary.metric * np.sqrt(0.5) if len(live) else np.zeros(size)
    coordinates = np.flatnonzero((metric > 0) & (dictionary.inverse_std[:size] > 0))
    # Each standardised term feeds the scores by its weight, and its own coordinate.
    feeds = np.concatenate([kernel[:size], np.diag(metric)[:, coordinates]], axis=1)
    feeds = feeds * dictionary.inverse_std[:size, None]
    bump_weights = kernel[size:][live] * dictionary.inverse_std[size:][live, None]
    complete = np.zeros(feeds.shape[1])
    complete[1:num_classes] = np.asarray(w.bias, np.float64)[: num_classes - 1]
    complete[:num_classes] -= dictionary.mean[size:][live] @ bump_weights
    missing, ramps = np.zeros((num_features, len(complete))), []
    for column, feature in enumerate(columns.tolist()):
        places = slice(TERMS * column, TERMS * (column + 1))
        feed, mean = feeds[places], dictionary.mean[places]
        build = _of_levels if dictionary.categorical[column] else _of_numbers
        low, high, heights, below = build(dictionary, column, feed[:-1])
        used = heights.any(axis=1)
        ramps.append((np.full(used.sum(), feature), low[used], high[used], heights[used]))
        # A ramp is zero in its middle, and so it is where its value is missing.
        known = below + 0.5 * heights.sum(axis=0) - mean[:-1] @ feed[:-1]
        missing[feature] = feed[-1] - known
        complete += known - mean[-1] * feed[-1]
    features, low, high, weights = map(np.concatenate, zip(*ramps, strict=True))
    wide = high > low
    return TableModel(
        columns=features,
        middle=0.5 * (low + high),
        slope=np.where(wide, 1.0 / np.where(wide, high - low, 1.0), _STEP),
        weights=weights,
        complete=complete,
        missing=missing,
        landmarks=np.sqrt(0.5) * dictionary.landmarks[live][:, coordinates],
        bumps=bump_weights,
    )


def _of_levels(dictionary: Any, column: int, feed: np.ndarray):
    """Ramps of codes: up just before each level, down just after it."""
    codes = dictionary.levels[column]
    edge = _CODE_EDGE * np.maximum(np.abs(codes), 1.0)
    at = np.concatenate([codes - edge, codes + edge])
    return at, at, np.concatenate([feed, -feed]), np.zeros(feed.shape[1])


def _of_numbers(dictionary: Any, column: int, feed: np.ndarray):
    """Where ramps begin and end, their heights `[J, O]`, and what there is below all of them."""
    centre, scale = dictionary.centre[column], dictionary.scale[column]
    quantiles = dictionary.quantiles[column]
    least, most = centre - FARTHEST * scale, centre + FARTHEST * scale
    knots = quantiles[list(HINGES)]
    starts = np.clip(knots, least, most)
    value, score, hinges = feed[0], feed[1], feed[2:]
    low = np.concatenate([[least], starts, quantiles[:-1]])
    high = np.concatenate([[most], np.full(len(starts), most), quantiles[1:]])
    heights = np.concatenate([[2.0 * FARTHEST], (most - starts) / scale, np.diff(SCORES)])
    owners = np.concatenate(
        [value[None], hinges, np.broadcast_to(score, (len(SCORES) - 1, len(score)))]
    )
    below = -FARTHEST * value + SCORES[0] * score
    below = below + np.maximum((least - knots) / scale, 0.0) @ hinges
    return low, high, heights[:, None] * owners, below
