"""Sparsity of `w`: penalties, proximal operators and measures, one vocabulary for all of them.

Only the floating-point leaves of `w` are parameters; labels and masks that a learner keeps in
`w` as integers or booleans are neither penalised, nor pruned, nor counted. An L1 penalty through
a network makes numbers small, not zero: exact zeros come from a proximal operator, which
`transforms.sparsify` puts behind `adapt`.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from jaxmeta.types import Array, Penalty, Prox, PyTree

_EPS = 1e-12


def is_parameter(leaf: Array) -> bool:
    """Whether a leaf of `w` counts as parameters, that is, holds floating-point numbers."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def parameters(w: PyTree) -> list[Array]:
    """The leaves of `w` that are parameters, in tree order."""
    return [jnp.asarray(leaf) for leaf in jax.tree.leaves(w) if is_parameter(leaf)]


def _map_parameters(function, w: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: function(leaf) if is_parameter(leaf) else leaf, w)


def _sum(values: list[Array]) -> Array:
    return jnp.asarray(sum(values, jnp.zeros(())))


# Penalties: penalty(w) -> scalar, summed over entries.


def l1(w: PyTree) -> Array:
    """Sum of `|w_i|` (Tibshirani, 1996)."""
    return _sum([_magnitudes(leaf).sum() for leaf in parameters(w)])


def _magnitudes(leaf: Array) -> Array:
    """`|w_i|` with the sub-gradient zero at zero, where `jnp.abs` would have one."""
    return leaf * jax.lax.stop_gradient(jnp.sign(leaf))


def l2(w: PyTree) -> Array:
    """Sum of `w_i^2`: small numbers, not zeros. The norm of the source document."""
    return _sum([jnp.square(leaf).sum() for leaf in parameters(w)])


def elastic_net(ratio: float = 0.5) -> Penalty:
    """`ratio * l1 + (1 - ratio) / 2 * l2` (Zou and Hastie, 2005), `ratio` in [0, 1]."""
    if not 0.0 <= ratio <= 1.0:
        raise ValueError(f"elastic_net needs a ratio between 0 and 1, got {ratio}.")
    return lambda w: ratio * l1(w) + 0.5 * (1.0 - ratio) * l2(w)


def group_lasso(axis: int = -1) -> Penalty:
    """Sum of the Euclidean norms of groups, each scaled by the root of its size.

    A group is what lies along `axis` of a leaf with two or more axes: for a weight matrix
    `[in, out]`, `axis=-1` ties the weights of one input, `axis=0` those of one unit. Leaves of
    one axis (biases) are groups of their own entries, that is, l1.

    References:
      Yuan and Lin, Model selection and estimation in regression with grouped variables, 2006.
    """

    def penalty(w: PyTree) -> Array:
        return _sum([_group_norms(leaf, axis).sum() for leaf in parameters(w)])

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


# Proximal operators: prox(w, step) -> w.


def soft_threshold(w: PyTree, step: float) -> PyTree:
    """Shrink every entry by `step` towards zero and stop there: the prox of `l1`."""
    return _map_parameters(
        lambda leaf: jnp.sign(leaf) * jnp.maximum(jnp.abs(leaf) - step, 0.0).astype(leaf.dtype), w
    )


def top_k(share: float | Array, *, per: Literal["all", "leaf", "row"] = "all") -> Prox:
    """Keep the largest magnitudes and set the rest to exact zeros: the prox of a count limit.

    Args:
      share: share of the entries that is kept, in (0, 1]; rounded down. May be a traced number:
        one that follows the outer step closes the gate by degrees.
      per: `"all"` ranks the entries of the whole `w` together, at least one of which is kept;
        `"leaf"` those of each leaf apart (a layer keeps its share whatever the size of the others,
        and a leaf too small for one entry keeps none); `"row"` those along the last axis of each
        leaf (every embedding keeps as many, at least one).

    Returns:
      `prox(w, step)`; the step plays no part. Entries that tie at the threshold are all kept.
    """
    if not isinstance(share, jax.core.Tracer) and not 0.0 < share <= 1.0:
        raise ValueError(f"top_k keeps a share of the entries in (0, 1], got {share}.")
    if per not in ("all", "leaf", "row"):
        raise ValueError(f"top_k ranks per 'all', 'leaf' or 'row', got {per!r}.")

    def kth_largest(magnitudes: Array) -> Array:
        # A full sort: lax.top_k would force an all-gather in sharded code.
        size = magnitudes.shape[-1]
        num_kept = _num_kept(share, size)
        ordered = jnp.sort(magnitudes, axis=-1)
        if per == "leaf":
            return jnp.where(num_kept > 0, ordered[..., size - jnp.maximum(num_kept, 1)], jnp.inf)
        return ordered[..., size - jnp.maximum(num_kept, 1)]

    def keep(leaf: Array, threshold: Array) -> Array:
        return jnp.where(jnp.abs(leaf) >= threshold, leaf, 0.0)

    def prox(w: PyTree, step: float = 1.0) -> PyTree:
        del step
        if per == "leaf":
            return _map_parameters(lambda leaf: keep(leaf, kth_largest(jnp.abs(leaf).ravel())), w)
        if per == "row":
            return _map_parameters(
                lambda leaf: keep(leaf, jnp.expand_dims(kth_largest(jnp.abs(leaf)), -1)), w
            )
        flat = jnp.concatenate([jnp.abs(leaf).ravel() for leaf in parameters(w)])
        threshold = jax.lax.stop_gradient(kth_largest(flat))
        return _map_parameters(lambda leaf: keep(leaf, threshold.astype(leaf.dtype)), w)

    return prox


def _num_kept(share: float | Array, size: int) -> int | Array:
    """Entries in a share, rounded down; the last digit of the product is not to cost an entry."""
    if isinstance(share, jax.core.Tracer):
        return jnp.floor(share * size + 1e-6 * size).astype(jnp.int32)
    return int(share * size + 1e-9 * size)


# Measures.


def nonzeros(w: PyTree) -> Array:
    """Number of parameters that are not exactly zero, int32."""
    return jnp.asarray(sum(jnp.count_nonzero(leaf) for leaf in parameters(w)), jnp.int32)


def size(w: PyTree) -> int:
    """Number of parameters, zeros included."""
    return sum(leaf.size for leaf in parameters(w))


def density(w: PyTree) -> Array:
    """Share of the parameters that is not exactly zero, in [0, 1]."""
    return nonzeros(w) / max(size(w), 1)


def num_bytes(w: PyTree) -> Array:
    """Bytes to ship `w`, leaf by leaf: dense, or each non-zero with a 4-byte index if smaller."""
    dense_or_sparse = [
        jnp.minimum(leaf.nbytes, jnp.count_nonzero(leaf) * (leaf.dtype.itemsize + 4))
        for leaf in parameters(w)
    ]
    return jnp.asarray(sum(dense_or_sparse), jnp.int32)
