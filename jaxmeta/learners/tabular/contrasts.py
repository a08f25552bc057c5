"""Contrasts: what the levels of a categorical column say together, as one term.

A contrast is +1 on some levels of its column, -1 on others and 0 on the rest, standardised like
every term. A dense model has no need of it, since the levels say the same; a model of few terms
says "these levels rather than those" with one weight instead of several.
"""

import jax.numpy as jnp

from jaxmeta.learners.tabular.dictionary import LEVELS, TERMS, Dictionary
from jaxmeta.types import Array

_LEAST_EFFECT = 0.5  # of the largest in the column: a level of less takes no side
_LEAST_VARIANCE = 1e-6


def choose_contrasts(dictionary: Dictionary, kernel: Array) -> Array:
    """Each column's contrast as weights of its standardised levels, `[D, 6]`; zeros if numeric.

    Args:
      dictionary: of the table.
      kernel: of a dense model `[F, C]`. The class for which a column's levels differ most decides.
    """
    shares, std = _shares_and_std(dictionary)
    effects = _of_levels(kernel, len(std)) / jnp.where(std > 0, std, jnp.inf)[..., None]
    effects = effects - jnp.einsum("dl,dlc->dc", shares, effects)[:, None]
    spread = jnp.einsum("dl,dlc->dc", shares, effects**2)
    decides = jnp.argmax(spread, axis=1)[:, None, None]
    effect = jnp.take_along_axis(effects, decides, axis=2)[..., 0] * (std > 0)
    size = jnp.abs(effect)
    sides = jnp.sign(effect) * (size > _LEAST_EFFECT * size.max(axis=1, keepdims=True))
    variance = (shares * sides**2).sum(axis=1) - (shares * sides).sum(axis=1) ** 2
    scale = jnp.where(variance > _LEAST_VARIANCE, variance, jnp.inf) ** -0.5
    return sides * std * scale[:, None]


def with_contrasts(terms: Array, contrasts: Array) -> Array:
    """Terms `[N, F]` and the contrasts after them, `[N, F + D]`."""
    said = jnp.einsum(
        "ndl,dl->nd", _of_levels(terms.T, len(contrasts)).transpose(2, 0, 1), contrasts
    )
    return jnp.concatenate([terms, said], axis=1)


def say_by_contrasts(dictionary: Dictionary, kernel: Array, contrasts: Array) -> Array:
    """The same model `[F + D, C]`, with what contrasts can say taken from the levels.

    A contrast takes what is nearest, in least squares over the support rows, to all that its
    column says: its covariance with it, since its own variance is one.
    """
    shares, std = _shares_and_std(dictionary)
    inverse = 1.0 / jnp.where(std > 0, std, jnp.inf)
    effects = _of_levels(kernel, len(std)) * inverse[..., None]
    weighted = shares * contrasts * inverse
    mean = jnp.einsum("dl,dlc->dc", shares, effects)
    said = jnp.einsum("dl,dlc->dc", weighted, effects) - weighted.sum(axis=1)[:, None] * mean
    return jnp.concatenate([kernel - levels_of(said, contrasts, len(kernel)), said])


def levels_of(kernel: Array, contrasts: Array, num_terms: int) -> Array:
    """Weights of contrasts `[D, C]` as weights of the levels they stand for, `[F, C]`."""
    levels = contrasts[..., None] * kernel[:, None]
    columns = jnp.pad(levels, ((0, 0), (0, TERMS - LEVELS), (0, 0))).reshape(-1, kernel.shape[1])
    return jnp.pad(columns, ((0, num_terms - len(columns)), (0, 0)))


def _of_levels(kernel: Array, num_columns: int) -> Array:
    """The rows of `kernel [F, C]` that belong to levels, `[D, 6, C]`."""
    return kernel[: TERMS * num_columns].reshape(num_columns, TERMS, -1)[:, :LEVELS]


def _shares_and_std(dictionary: Dictionary) -> tuple[Array, Array]:
    """Share of the rows, and standard deviation, of each level `[D, 6]`; zeros if numeric."""
    shape = len(dictionary.categorical), TERMS
    size = shape[0] * TERMS
    inverse = dictionary.inverse_std[:size].reshape(shape)[:, :LEVELS]
    live = dictionary.categorical[:, None] & (inverse > 0)
    shares = dictionary.mean[:size].reshape(shape)[:, :LEVELS]
    return jnp.where(live, shares, 0.0), jnp.where(live, 1.0 / jnp.where(live, inverse, 1.0), 0.0)
