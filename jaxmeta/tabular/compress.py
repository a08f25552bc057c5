"""From what the meta-net emits to a `TableModel`: only what live terms need is kept."""

from typing import Any

import jax
import numpy as np

from jaxmeta.learners.tabular import EmittedTable
from jaxmeta.learners.tabular.dictionary import (
    FARTHEST,
    HINGES,
    SCORES,
    TERMS,
)
from jaxmeta.tabular.model import TableModel

_STEP = 1e30
"""Slope of a ramp that is a step."""


def compress(w: EmittedTable, *, num_columns: int, num_classes: int) -> TableModel:
    """The arrays that predict as `w` does.

    Args:
      w: as emitted, arrays of NumPy or JAX.
      num_columns: columns D of the table, the first ones of the padded.
      num_classes: classes C, likewise.
    """
    dictionary: Any = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), w.dictionary)
    kernel = np.asarray(w.kernel, np.float64)[:, : num_classes - 1]
    size = len(dictionary.metric)
    live = np.flatnonzero(kernel[size:].any(axis=1))
    metric = dictionary.metric if len(live) else np.zeros(size)
    used_coordinates = np.flatnonzero((metric > 0) & (dictionary.inverse_std[:size] > 0))
    # Each standardised term feeds the contrasts by its weight, and its own coordinate.
    feeds = np.concatenate([kernel[:size], np.diag(metric)[:, used_coordinates]], axis=1)
    feeds = feeds * dictionary.inverse_std[:size, None]
    bump_weights = kernel[size:][live] * dictionary.inverse_std[size:][live, None]
    constant = np.zeros(feeds.shape[1])
    constant[: num_classes - 1] = np.asarray(w.bias, np.float64)[: num_classes - 1]
    constant[: num_classes - 1] -= dictionary.mean[size:][live] @ bump_weights
    below = np.zeros((num_columns, feeds.shape[1]))
    missing, rows = np.zeros_like(below), []
    for kind, build in ((0, _ramps), (1, _levels)):
        for column in np.flatnonzero(dictionary.categorical[:num_columns] == kind).tolist():
            places = slice(TERMS * column, TERMS * (column + 1))
            feed, mean = feeds[places], dictionary.mean[places]
            low, slope, offset, weights, shift = build(dictionary, column, feed[:-1])
            used = weights.any(axis=1)
            place = np.full(used.sum(), column)
            rows.append((place, low[used], slope[used], offset[used], weights[used]))
            below[column] = shift - mean[:-1] @ feed[:-1]
            missing[column] = feed[-1] - below[column]
            constant += below[column] - mean[-1] * feed[-1]
    columns, low, slope, offset, weights = map(np.concatenate, zip(*rows, strict=True))
    num_ramps = np.isin(columns, np.flatnonzero(dictionary.categorical == 0)).sum()
    return TableModel(
        columns=columns,
        low=low,
        slope=slope[:num_ramps],
        offset=offset[:num_ramps],
        weights=weights,
        complete=constant,
        missing=missing,
        landmarks=dictionary.landmarks[live][:, used_coordinates],
        bumps=bump_weights,
    )


def _levels(dictionary: Any, column: int, feed: np.ndarray):
    """Codes, two that play no part, the weights of the levels, and nothing below them."""
    codes = dictionary.levels[column]
    return codes, np.zeros_like(codes), np.zeros_like(codes), feed, 0.0


def _ramps(dictionary: Any, column: int, feed: np.ndarray):
    """Where ramps begin, slopes, offsets, weights `[J, O]`, and what there is below all of them."""
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
    wide = high > low
    slope = np.where(wide, 1.0 / np.where(wide, high - low, 1.0), _STEP)
    shift = -FARTHEST * value + SCORES[0] * score
    shift = shift + np.maximum((least - knots) / scale, 0.0) @ hinges
    return low, slope, np.where(wide, 0.0, 0.5), heights[:, None] * owners, shift
