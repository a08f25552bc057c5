"""The rules of the prior: from the columns of a table, unwarped, to scores of classes."""

import jax.numpy as jnp

from jaxmeta.tabular.prior._draws import NEVER, Draws, as_number, choose, log_uniform
from jaxmeta.types import Array

_HIDDEN, _TREES, _DEPTH, _BUMPS = 12, 6, 3, 2


def class_scores(draws: Draws, x: Array, real: Array, num_classes: int) -> Array:
    """Scores of the classes `[N, C]`, variance one: of one family, or the sum of two."""
    rules = (_linear, _network, _trees, _bumps, _nearness)
    families = jnp.stack([rule(draws, x, real, num_classes) for rule in rules])
    families = families - families.mean(axis=1, keepdims=True)
    families = families / (families.std(axis=(1, 2), keepdims=True) + 1e-6)
    chances = jnp.log(jnp.asarray([0.25, 0.2, 0.25, 0.2, 0.1]))
    first, second = choose(draws.uniform(2, len(rules)), chances)
    both = as_number(draws.uniform() < 0.35)
    return (families[first] + both * families[second]) / jnp.sqrt(1.0 + both)


def _relevant(draws: Draws, real: Array) -> Array:
    """Weights of the columns: some tasks need few, some all; magnitudes differ."""
    share = 0.1 + 1.1 * draws.uniform()
    which = as_number(draws.uniform(len(real)) < share)
    weights = (which + 0.03) * jnp.exp(0.7 * draws.normal(len(real))) * as_number(real)
    return weights / (jnp.sqrt(jnp.square(weights).sum()) + 1e-6)


def _linear(draws: Draws, x: Array, real: Array, num_classes: int) -> Array:
    weights = draws.normal(x.shape[1], num_classes)
    return x @ (weights * _relevant(draws, real)[:, None])


def _network(draws: Draws, x: Array, real: Array, num_classes: int) -> Array:
    inner = draws.normal(x.shape[1], _HIDDEN) * _relevant(draws, real)[:, None]
    pre = log_uniform(draws.uniform(), 0.7, 3.0) * (x @ inner) + draws.normal(_HIDDEN)[None]
    return jnp.tanh(pre) @ draws.normal(_HIDDEN, num_classes)


def _trees(draws: Draws, x: Array, real: Array, num_classes: int) -> Array:
    """Oblivious trees: on each level one question, the same for all nodes."""
    chances = jnp.where(real, 2.0 * jnp.log(_relevant(draws, real) + 1e-9), NEVER)
    column = choose(draws.uniform(_TREES, _DEPTH, x.shape[1]), chances)
    cuts = 0.8 * draws.normal(_TREES, _DEPTH)
    leaf = (x[:, column] > cuts[None]).astype(jnp.int32) @ (2 ** jnp.arange(_DEPTH))
    values = draws.normal(_TREES, 2**_DEPTH, num_classes)
    used = as_number(jnp.arange(_TREES, dtype=jnp.float32) < 1 + _TREES * draws.uniform())
    leaves = values[jnp.arange(_TREES)[None], leaf]
    return (leaves * used[None, :, None]).sum(axis=1)


def _bumps(draws: Draws, x: Array, real: Array, num_classes: int) -> Array:
    """A sum over columns of pits and bumps of one column each."""
    num_columns = x.shape[1]
    centre = 1.2 * draws.normal(num_columns, _BUMPS)
    width = log_uniform(draws.uniform(num_columns, _BUMPS), 0.3, 2.0)
    bumps = jnp.tanh((x[..., None] - centre[None]) / width[None]) ** 2
    weights = draws.normal(num_columns, _BUMPS, num_classes)
    return jnp.einsum("ndb,dbc->nc", bumps, weights * _relevant(draws, real)[:, None, None])


def _nearness(draws: Draws, x: Array, real: Array, num_classes: int) -> Array:
    """Minus half the squared distance to the nearest of a class's two centres."""
    scale = _relevant(draws, real)
    centres = draws.normal(2, num_classes, x.shape[1]) * scale[None, None]
    reach = log_uniform(draws.uniform(), 0.5, 2.0)
    gap = (x * scale[None])[:, None, None] - reach * centres[None]
    return -0.5 * jnp.square(gap).sum(axis=-1).min(axis=1)
