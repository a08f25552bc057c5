"""The fixed dictionary: what every emitted model is linear in, read off one support set.

A column gives seven terms. If it is numeric: its standardised value, its rank turned into a normal
score, four hinges at quantiles, and whether it is missing. If it is categorical: which of its six
most frequent levels it has, and whether it is missing. Some support rows are landmarks: a term
says how near a row is to one, as a Gaussian bump. All terms have mean zero and variance one over
the support rows; a term that never varies there is zero.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.tabular._arrays import (
    FARTHEST,
    HINGES,
    LEVELS,
    NUM_QUANTILES,
    SCORES,
    TERMS,
    Dictionary,
)
from jaxmeta.types import Array, Examples

_LEAST_STD = 1e-4
_SPREAD = 3.0  # mean squared distance of two rows in the coordinates of the landmarks
_NO_LEVEL = -1.0
_LEAST_DISTANCE = 1e-3  # squared, of a landmark from those before it
_NOWHERE = 1e3  # a coordinate so far from all rows that a bump there is zero


class _Columns(NamedTuple):
    """What raw terms of columns are computed from: the first fields of `Dictionary`."""

    categorical: Array
    centre: Array
    scale: Array
    quantiles: Array
    levels: Array


def build_dictionary(
    support: Examples, categorical: Array, members: Array, *, num_landmarks: int
) -> tuple[Dictionary, Array]:
    """Read the dictionary off the support rows.

    Args:
      support: `x [S, 2, D]`: values, and 1 where one is known.
      categorical: which columns hold codes, `[D]`.
      members: class membership of the rows `[S, C]`, zeros where padded.
      num_landmarks: landmarks M, at most S.

    Returns:
      The dictionary, and the terms of the support rows `[S, F]`, zeros where padded.
    """
    real = support.mask.astype(bool)
    known = (support.x[:, 1] > 0) & real[:, None]
    values = jnp.where(known, support.x[:, 0], 0.0)
    count = jnp.maximum(known.sum(axis=0), 1)
    centre = values.sum(axis=0) / count
    variance = (jnp.where(known, values - centre[None], 0.0) ** 2).sum(axis=0) / count
    scale = jnp.where(variance > _LEAST_STD**2 * (centre**2 + 1e-30), jnp.sqrt(variance), 1.0)
    columns = _Columns(
        categorical=categorical > 0,
        centre=centre,
        scale=scale,
        quantiles=_quantiles(values, known, count),
        levels=_frequent_levels(values, known),
    )
    raw = _column_terms(columns, support.x)
    mean, inverse_std = _moments(raw, _known_terms(known), real)
    terms = jnp.where(real[:, None], _standardise(raw, support.x, mean, inverse_std), 0.0)
    metric = _metric(columns.categorical, inverse_std, terms, members)
    landmarks = _landmarks(terms * metric[None], real, num_landmarks)
    bumps = _bumps(terms, metric, landmarks)
    bump_mean, bump_inverse = _moments(bumps, jnp.broadcast_to(real[:, None], bumps.shape), real)
    dictionary = Dictionary(
        *columns,
        metric=metric,
        landmarks=landmarks,
        mean=jnp.concatenate([mean, bump_mean]),
        inverse_std=jnp.concatenate([inverse_std, bump_inverse]),
    )
    bumps = jnp.where(real[:, None], (bumps - bump_mean[None]) * bump_inverse[None], 0.0)
    return dictionary, jnp.concatenate([terms, bumps], axis=1)


def expand(dictionary: Dictionary, x: Array) -> Array:
    """The terms `[N, F]` of rows `x [N, 2, D]`."""
    size = len(dictionary.metric)
    columns = _Columns(*dictionary[: len(_Columns._fields)])
    moments = dictionary.mean[:size], dictionary.inverse_std[:size]
    terms = _standardise(_column_terms(columns, x), x, *moments)
    bumps = _bumps(terms, dictionary.metric, dictionary.landmarks) - dictionary.mean[None, size:]
    return jnp.concatenate([terms, bumps * dictionary.inverse_std[None, size:]], axis=1)


def term_columns(num_columns: int, num_landmarks: int) -> tuple[np.ndarray, np.ndarray]:
    """The column of each term, D for bumps, and its place among its column's terms, 7 for bumps."""
    columns = np.repeat(np.arange(num_columns + 1), [TERMS] * num_columns + [num_landmarks])
    places = np.concatenate([np.tile(np.arange(TERMS), num_columns), np.full(num_landmarks, TERMS)])
    return columns, places


def _column_terms(columns: _Columns, x: Array) -> Array:
    """Raw terms of the columns `[N, 7 D]`; what they are where a value is missing is not read."""
    values = x[:, 0]
    u = (values - columns.centre[None]) / columns.scale[None]
    u = jnp.clip(u, -FARTHEST, FARTHEST)
    knots = (columns.quantiles - columns.centre[:, None]) / columns.scale[:, None]
    hinges = jnp.maximum(u[..., None] - knots[None][..., np.asarray(HINGES)], 0.0)
    score = _normal_score(columns.quantiles, values)
    numeric = jnp.concatenate([u[..., None], score[..., None], hinges], axis=-1)
    levels = (values[..., None] == columns.levels[None]).astype(values.dtype)
    terms = jnp.where(columns.categorical[None, :, None], levels, numeric)
    missing = 1.0 - (x[:, 1] > 0)
    return jnp.concatenate([terms, missing[..., None]], axis=-1).reshape(len(x), -1)


def _normal_score(quantiles: Array, values: Array) -> Array:
    """Piecewise linear from the quantiles to the scores; half of a step at values that repeat."""
    low, width = quantiles[:, :-1], jnp.diff(quantiles, axis=1)
    above = values[..., None] - low[None]
    ramp = jnp.clip(above / jnp.where(width > 0, width, 1.0)[None], 0.0, 1.0)
    step = jnp.where(above > 0, 1.0, jnp.where(above < 0, 0.0, 0.5))
    return SCORES[0] + jnp.where((width > 0)[None], ramp, step) @ np.diff(SCORES)


def _known_terms(known: Array) -> Array:
    """Which terms of the columns are known, `[N, 7 D]`: all that rest on a known value."""
    always = jnp.ones_like(known)
    return jnp.stack([known] * LEVELS + [always], axis=-1).reshape(len(known), -1)


def _standardise(raw: Array, x: Array, mean: Array, inverse_std: Array) -> Array:
    """Terms of the columns with mean zero and variance one; at the mean where missing."""
    terms = (raw - mean[None]) * inverse_std[None]
    return jnp.where(_known_terms(x[:, 1] > 0), terms, 0.0)


def _moments(raw: Array, known: Array, real: Array) -> tuple[Array, Array]:
    """Mean, and one over the standard deviation, of each term over the known rows."""
    known = known & real[:, None]
    count = jnp.maximum(known.sum(axis=0), 1)
    mean = jnp.where(known, raw, 0.0).sum(axis=0) / count
    variance = (jnp.where(known, raw - mean[None], 0.0) ** 2).sum(axis=0) / count
    inverse = jax.lax.rsqrt(jnp.maximum(variance, _LEAST_STD**2))
    return mean, jnp.where(variance > _LEAST_STD**2, inverse, 0.0)


def _quantiles(values: Array, known: Array, count: Array) -> Array:
    """`[D, 17]`, by linear interpolation between the sorted known values."""
    ordered = jnp.sort(jnp.where(known, values, jnp.inf), axis=0).T
    place = np.linspace(0.0, 1.0, NUM_QUANTILES)[None] * (count - 1)[:, None]
    low = jnp.floor(place).astype(jnp.int32)
    high = jnp.minimum(low + 1, (count - 1)[:, None])
    below, above = (jnp.take_along_axis(ordered, at, axis=1) for at in (low, high))
    quantiles = below + (place - low) * (above - below)
    return jnp.where(jnp.isfinite(quantiles), quantiles, 0.0)


def _frequent_levels(values: Array, known: Array) -> Array:
    """The codes `[D, 6]` that most rows have, the smaller code first among equals."""
    same = (values[:, None] == values[None]) & known[:, None] & known[None]
    # One code less is worth less than one row more.
    score = same.sum(axis=0) - values / (1.0 + jnp.abs(values).max(axis=0))[None]
    score, levels = jnp.where(known, score, -jnp.inf), []
    for _ in range(LEVELS):
        best = jnp.argmax(score, axis=0)[None]
        level = jnp.take_along_axis(values, best, axis=0)[0]
        found = jnp.take_along_axis(score, best, axis=0)[0] > -jnp.inf
        levels.append(jnp.where(found, level, _NO_LEVEL))
        score = jnp.where(values == level[None], -jnp.inf, score)
    return jnp.stack(levels, axis=-1)


def _metric(categorical: Array, inverse_std: Array, terms: Array, members: Array) -> Array:
    """Scale of each term where nearness is measured: scores and levels, by what they tell of y.

    The relevance of a column is the largest share of a class's variance that one of its terms
    explains. Columns that tell nothing keep a little weight.
    """
    count = jnp.maximum(members.sum(), 1.0)
    share = members.sum(axis=0) / count
    centred = (members - share[None]) * members.sum(axis=1, keepdims=True)
    correlation = terms.T @ centred / count / jnp.sqrt(share * (1 - share) + 1e-6)[None]
    explained = jnp.square(correlation).max(axis=1).reshape(-1, TERMS)
    relevance = jnp.maximum(explained[:, :LEVELS].max(axis=1) - 1.0 / count, 0.0)
    relevance = relevance + 0.01 * relevance.sum() + 1e-3
    used = jnp.where(categorical[:, None], np.arange(TERMS) < LEVELS, np.arange(TERMS) == 1)
    inverse = inverse_std.reshape(-1, TERMS)
    # A level counts as the indicator that it is, however rare.
    std = jnp.where(inverse > 0, 1.0 / jnp.where(inverse > 0, inverse, 1.0), 0.0)
    square = jnp.where(categorical[:, None], std**2, inverse > 0) * used
    square = square * relevance[:, None]
    spread = 2.0 * jnp.where(inverse > 0, square, 0.0).sum()
    return jnp.sqrt(square * _SPREAD / jnp.maximum(spread, 1e-6)).ravel()


def _landmarks(points: Array, real: Array, num_landmarks: int) -> Array:
    """Rows of `points [S, P]`, each as far as can be from those before; the first is central.

    Where all rows are landmarks, those that are left are nowhere. They would repeat a row that
    rounding chooses, and that row would weigh more.
    """
    squares = jnp.square(points).sum(axis=1)
    # The first is the nearest to the mean; from then on distances are below these numbers.
    first = jnp.where(real, 1e6 - squares, -1.0)

    def choose(far: Array, _: None) -> tuple[Array, Array]:
        index = jnp.argmax(far)
        distance = squares + squares[index] - 2.0 * points @ points[index]
        landmark = jnp.where(far[index] > _LEAST_DISTANCE, points[index], _NOWHERE)
        return jnp.where(real, jnp.minimum(far, distance), -1.0), landmark

    return jax.lax.scan(choose, first, length=num_landmarks)[1]


def _bumps(terms: Array, metric: Array, landmarks: Array) -> Array:
    """`exp(-|row - landmark|^2 / 2)`, `[N, M]`."""
    points = terms * metric[None]
    squares = jnp.square(points).sum(axis=1)[:, None]
    squares = squares + jnp.square(landmarks).sum(axis=1)[None]
    return jnp.exp(-0.5 * jnp.maximum(squares - 2.0 * points @ landmarks.T, 0.0))
