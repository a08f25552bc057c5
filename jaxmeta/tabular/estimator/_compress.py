"""From what the meta-net emits to a `TableModel`: only what live terms need is kept."""

from typing import Any

import numpy as np

from jaxmeta.tabular._arrays import FARTHEST, HINGES, LEVELS, SCORES, TERMS, EmittedTable
from jaxmeta.tabular.estimator._model import TableModel
from jaxmeta.tabular.estimator._reduction import Units

_STEP = 1e30
"""Slope of a ramp that is a step."""

_CODE_EDGE = 1e-6  # how near to a code a value is that code


def compress(w: EmittedTable, units: Units, num_classes: int) -> TableModel:
    """The arrays that predict as `w` does.

    Args:
      w: as emitted, arrays of NumPy or JAX; columns after those of `units` are padding.
      units: which feature each of its K columns is, and what was done to it.
      num_classes: classes C, the first ones of the padded.
    """
    dictionary: Any = w.dictionary._make(np.asarray(leaf, np.float64) for leaf in w.dictionary)
    size = len(dictionary.metric)
    of_columns, of_landmarks = _weights(w, size, len(dictionary.mean), num_classes)
    live = np.flatnonzero(of_landmarks.any(axis=1))
    # A bump is exp(-|gap|^2) in these coordinates.
    metric = dictionary.metric * np.sqrt(0.5) if len(live) else np.zeros(size)
    coordinates = np.flatnonzero((metric > 0) & (dictionary.inverse_std[:size] > 0))
    # Each standardised term feeds the scores by its weight, and its own coordinate.
    feeds = np.concatenate([of_columns, np.diag(metric)[:, coordinates]], axis=1)
    feeds = feeds * dictionary.inverse_std[:size, None]
    bump_weights = of_landmarks[live] * dictionary.inverse_std[size:][live, None]
    complete = np.zeros(feeds.shape[1])
    complete[1:num_classes] = np.asarray(w.bias, np.float64)[: num_classes - 1]
    complete[:num_classes] -= dictionary.mean[size:][live] @ bump_weights
    feeds = feeds.reshape(-1, TERMS, len(complete))[: len(units.features)]
    means = dictionary.mean[:size].reshape(-1, TERMS, 1)[: len(units.features)]
    (columns, low, high, weights), missing, constants = _as_ramps(dictionary, feeds, means)
    complete = sum(constants, start=complete)
    wide = high > low
    return TableModel(
        **units._asdict(),
        columns=columns,
        middle=0.5 * (low + high),
        slope=np.where(wide, 1.0 / np.where(wide, high - low, 1.0), _STEP),
        weights=weights,
        complete=complete,
        missing=missing,
        landmarks=np.sqrt(0.5) * dictionary.landmarks[live][:, coordinates],
        bumps=bump_weights,
    )


def _weights(
    w: EmittedTable, size: int, terms: int, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the terms of columns `[size, C]`, and of the landmarks `[terms - size, C]`."""
    # Class 0 has the score zero.
    kernel = np.pad(np.asarray(w.kernel, np.float64)[:, : num_classes - 1], ((0, 0), (1, 0)))
    kernel, of_contrasts = np.split(kernel, [terms])
    of_columns = kernel[:size].reshape(-1, TERMS, num_classes)
    # A contrast weighs the levels of its column: what it says is said by them.
    by_contrasts = np.asarray(w.contrasts)[..., None] * of_contrasts[:, None]
    of_columns = np.concatenate(
        [of_columns[:, :LEVELS] + by_contrasts, of_columns[:, LEVELS:]], axis=1
    )
    return of_columns.reshape(size, num_classes), kernel[size:]


def _as_ramps(dictionary: Any, feeds: np.ndarray, means: np.ndarray):
    """The terms of all columns as ramps.

    Args:
      dictionary: of the terms, in double precision.
      feeds: what each term of a column adds to each output, `[K, TERMS, O]`.
      means: of the terms, `[K, TERMS, 1]`.

    Returns:
      `(columns [J], low [J], high [J], heights [J, O])` of the J ramps in use, what a missing value
      of a column adds `[K, O]`, and constants of all rows, each `[O]`.
    """
    missing, ramps, constants = np.zeros_like(feeds[:, 0]), [], []
    for kind, build in ((0, _of_numbers), (1, _of_levels)):
        chosen = np.flatnonzero(dictionary.categorical[: len(feeds)] == kind)
        feed, mean = feeds[chosen], means[chosen]
        low, high, heights, below = build(dictionary, chosen, feed[:, :-1])
        used = heights.any(axis=2)
        columns = np.repeat(chosen, used.sum(axis=1))
        ramps.append((columns, low[used], high[used], heights[used]))
        # A ramp is zero in its middle, and so it is where its value is missing.
        known = below + 0.5 * heights.sum(axis=1) - (mean[:, :-1] * feed[:, :-1]).sum(axis=1)
        missing[chosen] = feed[:, -1] - known
        constants.append((known - mean[:, -1] * feed[:, -1]).sum(axis=0))
    return tuple(map(np.concatenate, zip(*ramps, strict=True))), missing, constants


def _of_levels(dictionary: Any, chosen: np.ndarray, feed: np.ndarray):
    """Ramps of codes: up just before each level, down just after it."""
    codes = dictionary.levels[chosen]
    edge = _CODE_EDGE * np.maximum(np.abs(codes), 1.0)
    at = np.concatenate([codes - edge, codes + edge], axis=1)
    return at, at, np.concatenate([feed, -feed], axis=1), np.zeros_like(feed[:, 0])


def _of_numbers(dictionary: Any, chosen: np.ndarray, feed: np.ndarray):
    """Where ramps begin and end `[N, J]`, their heights `[N, J, O]`, what is below all of them."""
    centre, scale = dictionary.centre[chosen, None], dictionary.scale[chosen, None]
    quantiles = dictionary.quantiles[chosen]
    least, most = centre - FARTHEST * scale, centre + FARTHEST * scale
    knots = quantiles[:, HINGES]
    starts = np.clip(knots, least, most)
    low = np.concatenate([least, starts, quantiles[:, :-1]], axis=1)
    high = np.concatenate([most, np.repeat(most, len(HINGES), axis=1), quantiles[:, 1:]], axis=1)
    value, score, hinges = feed[:, :1], feed[:, 1:2], feed[:, 2:]
    heights = np.concatenate(
        [
            2.0 * FARTHEST * value,
            ((most - starts) / scale)[..., None] * hinges,
            np.diff(SCORES)[:, None] * score,
        ],
        axis=1,
    )
    below = -FARTHEST * value[:, 0] + SCORES[0] * score[:, 0]
    below = below + (np.maximum((least - knots) / scale, 0.0)[..., None] * hinges).sum(axis=1)
    return low, high, heights, below
