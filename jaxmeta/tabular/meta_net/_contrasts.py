"""Contrasts: what the levels of a categorical column say together, as one term.

A contrast is +1 on some levels of its column, -1 on others and 0 on the rest, standardised like
every term. A dense model has no need of it, since the levels say the same; a model of few terms
says "these levels rather than those" with one weight instead of several.
"""

import jax.numpy as jnp

from jaxmeta.tabular._arrays import LEVELS, TERMS, Dictionary
from jaxmeta.types import Array

_LEAST_EFFECT = 0.5  # of the largest in the column: a level of less takes no side
_LEAST_VARIANCE = 1e-6


def choose_contrasts(dictionary: Dictionary, kernel: Array) -> Array:
    """Each column's contrast as weights of its standardised levels, `[D, 6]`; zeros if numeric.

    Args:
      dictionary: of the table.
      kernel: of a dense model `[F, C]`. The class for which a column's levels differ most decides.
    """
    shares, inverse_std = _levels(dictionary)
    effects = _of_levels(kernel, len(shares)) * inverse_std[..., None]
    effects = effects - jnp.einsum("dl,dlc->dc", shares, effects)[:, None]
    spread = jnp.einsum("dl,dlc->dc", shares, effects**2)
    decides = jnp.argmax(spread, axis=1)[:, None, None]
    live = inverse_std > 0
    effect = jnp.where(live, jnp.take_along_axis(effects, decides, axis=2)[..., 0], 0.0)
    size = jnp.abs(effect)
    sides = jnp.sign(effect) * (size > _LEAST_EFFECT * size.max(axis=1, keepdims=True))
    variance = (shares * sides**2).sum(axis=1) - (shares * sides).sum(axis=1) ** 2
    scale = jnp.where(variance > _LEAST_VARIANCE, variance, jnp.inf) ** -0.5
    return scale[:, None] * jnp.where(live, sides / jnp.where(live, inverse_std, 1.0), 0.0)


def with_contrasts(terms: Array, contrasts: Array) -> Array:
    """Terms `[N, F]` and the contrasts after them, `[N, F + D]`."""
    levels = _of_levels(terms.T, len(contrasts))
    return jnp.concatenate([terms, jnp.einsum("dln,dl->nd", levels, contrasts)], axis=1)


def say_by_contrasts(dictionary: Dictionary, kernel: Array, contrasts: Array) -> Array:
    """The same model `[F + D, C]`, with what contrasts can say taken from the levels.

    A contrast takes what is nearest, in least squares over the support rows, to all that its
    column says: its covariance with it, since its own variance is one.
    """
    shares, inverse_std = _levels(dictionary)
    effects = _of_levels(kernel, len(shares)) * inverse_std[..., None]
    sides = shares * contrasts * inverse_std
    mean = jnp.einsum("dl,dlc->dc", shares, effects)
    said = jnp.einsum("dl,dlc->dc", sides, effects) - sides.sum(axis=1)[:, None] * mean
    levels = jnp.pad(contrasts[..., None] * said[:, None], ((0, 0), (0, TERMS - LEVELS), (0, 0)))
    levels = levels.reshape(-1, kernel.shape[1])
    return jnp.concatenate([kernel.at[: len(levels)].add(-levels), said])


def _of_levels(kernel: Array, num_columns: int) -> Array:
    """The rows of `kernel [F, C]` that belong to levels, `[D, 6, C]`."""
    return kernel[: TERMS * num_columns].reshape(num_columns, TERMS, -1)[:, :LEVELS]


def _levels(dictionary: Dictionary) -> tuple[Array, Array]:
    """Share of the rows, and one over the deviation, of each level `[D, 6]`; zeros if numeric."""
    mean, inverse_std = (
        _of_levels(leaf[:, None], len(dictionary.categorical))[..., 0]
        for leaf in (dictionary.mean, dictionary.inverse_std)
    )
    live = dictionary.categorical[:, None] & (inverse_std > 0)
    return jnp.where(live, mean, 0.0), jnp.where(live, inverse_std, 0.0)
