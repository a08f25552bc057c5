"""Penalties: `penalty(w) -> scalar`, summed over entries."""

import math

import jax
import jax.numpy as jnp

from jaxmeta._precision import wide
from jaxmeta._tree import parameters
from jaxmeta.types import Array, Penalty, PyTree

_EPS = 1e-12


def _sum(values: list[Array]) -> Array:
    return jnp.asarray(sum(values, jnp.zeros(())))


def _wide(w: PyTree) -> list[Array]:
    """The parameters in float32 at the least: sums of halves overflow."""
    return [wide(leaf) for leaf in parameters(w)]


def l1(w: PyTree) -> Array:
    """Sum of `|w_i|` (Tibshirani, 1996)."""
    return _sum([_magnitudes(leaf).sum() for leaf in _wide(w)])


def _magnitudes(leaf: Array) -> Array:
    """`|w_i|` with the sub-gradient zero at zero, where `jnp.abs` would have one."""
    return leaf * jax.lax.stop_gradient(jnp.sign(leaf))


def l2(w: PyTree) -> Array:
    """Sum of `w_i^2`: small numbers, not zeros. The norm of the source document."""
    return _sum([jnp.square(leaf).sum() for leaf in _wide(w)])


def elastic_net(ratio: float = 0.5) -> Penalty:
    """`ratio * l1 + (1 - ratio) / 2 * l2` (Zou and Hastie, 2005), `ratio` in [0, 1]."""
    check_ratio(ratio)
    return lambda w: ratio * l1(w) + 0.5 * (1.0 - ratio) * l2(w)


def check_ratio(ratio: float) -> None:
    """Raise ValueError unless `ratio` can be the share of l1 in an elastic net."""
    if not 0.0 <= ratio <= 1.0:
        raise ValueError(f"elastic_net needs a ratio between 0 and 1, got {ratio}.")


def group_lasso(axis: int = -1) -> Penalty:
    """Sum of the Euclidean norms of groups, each scaled by the root of its size.

    A group is what lies along `axis` of a leaf with two or more axes: for a weight matrix
    `[in, out]`, `axis=-1` ties the weights of one input, `axis=0` those of one unit. Leaves of
    one axis (biases) are groups of their own entries, that is, l1.

    References:
      Yuan and Lin, Model selection and estimation in regression with grouped variables, 2006.
    """

    def penalty(w: PyTree) -> Array:
        return _sum([_group_norms(leaf, axis).sum() for leaf in _wide(w)])

    return penalty


def _group_norms(leaf: Array, axis: int) -> Array:
    if leaf.ndim < 2:
        return _magnitudes(leaf)
    squares = jnp.square(leaf).sum(axis=axis)
    # The norm has no gradient at zero: a group that is zero gets the sub-gradient zero.
    norms = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    return math.sqrt(leaf.shape[axis]) * norms


def hoyer(w: PyTree) -> Array:
    """`(sum |w_i|)^2 / sum w_i^2`: between 1 (one entry) and W (all equal), whatever the scale.

    References:
      Yang, Wen and Li, DeepHoyer: learning sparser neural networks, arXiv:1908.09979.
    """
    return jnp.square(l1(w)) / jnp.maximum(l2(w), _EPS)


def log_sum(epsilon: float = 0.1) -> Penalty:
    """Sum of `log(1 + |w_i| / epsilon)`: steep at zero, nearly flat for what is large.

    The smaller epsilon, the closer to a count of the entries that are not zero.

    References:
      Candes, Wakin and Boyd, Enhancing sparsity by reweighted l1 minimization, arXiv:0711.1612.
    """
    check_epsilon(epsilon)
    return lambda w: _sum([jnp.log1p(_magnitudes(leaf) / epsilon).sum() for leaf in _wide(w)])


def check_epsilon(epsilon: float) -> None:
    """Raise ValueError unless `epsilon` can be the scale of a log-sum."""
    if not epsilon > 0:
        raise ValueError(f"log_sum needs an epsilon above zero, got {epsilon}.")
