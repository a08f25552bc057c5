"""Proximal operators: `prox(w, step) -> w`, the `v` of least `1/2 |v - w|^2 + step * penalty(v)`.

| penalty | operator |
| --- | --- |
| `l1` | `soft_threshold` |
| `l2` | `shrink` |
| `elastic_net(ratio)` | `elastic_threshold(ratio)` |
| `group_lasso(axis)` | `group_threshold(axis)` |
| `log_sum(epsilon)` | `log_threshold(epsilon)` |
| the number of entries, between two limits | `hard_threshold(least, most)` |
| a limit on the number of entries, or of whole inputs or units | `top_k(share)` |

`hoyer` is a ratio of sums over all of `w`: no closed form of its operator is known to us, and it
has none here.
"""

import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from jaxmeta._precision import wide
from jaxmeta._tree import map_parameters, parameters
from jaxmeta.sparsity.penalties import check_epsilon, check_ratio
from jaxmeta.types import Array, Prox, PyTree

Per = Literal["all", "leaf", "row", "input", "unit"]


def soft_threshold(w: PyTree, step: float | Array) -> PyTree:
    """Shrink every entry by `step` towards zero and stop there: the prox of `l1`."""
    return map_parameters(lambda leaf: _soften(leaf, step), w)


def _soften(leaf: Array, step: float | Array) -> Array:
    return (jnp.sign(leaf) * jnp.maximum(jnp.abs(leaf) - step, 0.0)).astype(leaf.dtype)


def shrink(w: PyTree, step: float | Array) -> PyTree:
    """Divide every entry by `1 + 2 step`: the prox of `l2`."""
    return map_parameters(lambda leaf: (leaf / (1.0 + 2.0 * step)).astype(leaf.dtype), w)


def elastic_threshold(ratio: float = 0.5) -> Prox:
    """The prox of `elastic_net(ratio)`: a soft threshold, then a division."""
    check_ratio(ratio)
    return lambda w, step: shrink(soft_threshold(w, step * ratio), 0.5 * step * (1.0 - ratio))


def group_threshold(axis: int = -1) -> Prox:
    """The prox of `group_lasso(axis)`: every group is shortened, or vanishes as a whole."""

    def shorten(leaf: Array, step: float | Array) -> Array:
        if leaf.ndim < 2:
            return _soften(leaf, step)
        squares = jnp.square(leaf).sum(axis=axis, keepdims=True)
        reach = step * math.sqrt(leaf.shape[axis])
        alive = squares > jnp.square(reach)
        norms = jnp.sqrt(jnp.where(alive, squares, 1.0))
        return jnp.where(alive, leaf * (1.0 - reach / norms), 0.0).astype(leaf.dtype)

    return lambda w, step: map_parameters(lambda leaf: shorten(leaf, step), w)


def log_threshold(epsilon: float = 0.1) -> Prox:
    """The prox of `log_sum(epsilon)`: small entries vanish, large ones hardly move.

    The derivative vanishes at the larger root r of a quadratic, where there is one; what is left is
    to see whether r or zero is the lesser.

    References:
      Prater-Bennette, Shen and Tripp, The proximity operator of the log-sum penalty,
      arXiv:2103.02681.
    """
    check_epsilon(epsilon)

    def threshold(leaf: Array, step: float | Array) -> Array:
        size = jnp.abs(leaf)
        square = 0.25 * jnp.square(size + epsilon) - step
        real = square >= 0
        root = 0.5 * (size - epsilon) + jnp.sqrt(jnp.where(real, square, 1.0))
        root = jnp.where(real, jnp.maximum(root, 0.0), 0.0)
        there = 0.5 * jnp.square(root - size) + step * jnp.log1p(root / epsilon)
        moved = jnp.sign(leaf) * root
        return jnp.where(there < 0.5 * jnp.square(size), moved, 0.0).astype(leaf.dtype)

    return lambda w, step: map_parameters(lambda leaf: threshold(leaf, step), w)


def hard_threshold(least: int = 0, most: int | None = None) -> Prox:
    """Keep what is worth `step`, no fewer than `least` entries of all of `w`, no more than `most`.

    The prox of the number of non-zeros inside a box: an entry is worth its square by two. Entries
    that tie with the last one kept are all kept.
    """
    if least < 0 or (most is not None and most < max(least, 1)):
        raise ValueError(
            f"hard_threshold keeps from least=0 or more to most=1 or more, got {least} and {most}."
        )

    def prox(w: PyTree, step: float | Array) -> PyTree:
        flat = jnp.concatenate([jnp.abs(wide(leaf)).ravel() for leaf in parameters(w)])
        worth = (0.5 * jnp.square(flat) > step).sum()
        limits = [jnp.minimum(limit, flat.size) for limit in (least, most or flat.size)]
        smallest = kth_largest(flat, jnp.clip(worth, *limits))
        return map_parameters(lambda leaf: _keep(leaf, jnp.abs(leaf), smallest), w)

    return prox


def top_k(share: float | Array, *, per: Per = "all") -> Prox:
    """Keep the largest magnitudes and set the rest to exact zeros: the prox of a count limit.

    Args:
      share: share of the entries that is kept, in (0, 1]; rounded down. May be a traced number:
        one that follows the outer step closes the gate by degrees.
      per: `"all"` ranks the entries of the whole `w` together, at least one of which is kept;
        `"leaf"` those of each leaf apart (a layer keeps its share whatever the size of the others,
        and a leaf too small for one entry keeps none); `"row"` those along the last axis of each
        leaf (every embedding keeps as many, at least one). `"input"` and `"unit"` rank whole rows
        or columns of kernels `[in, out]` by their norms and keep at least one, so that what is
        left is a smaller matrix; leaves of one axis stay as they are.

    Returns:
      `prox(w, step)`; the step plays no part. Entries that tie at the threshold are all kept.
    """
    if not isinstance(share, jax.core.Tracer) and not 0.0 < share <= 1.0:
        raise ValueError(f"top_k keeps a share of the entries in (0, 1], got {share}.")
    if per not in get_args(Per):
        raise ValueError(f"top_k ranks per 'all', 'leaf', 'row', 'input' or 'unit', got {per!r}.")

    def kth(ranked: Array) -> Array:
        num_kept = count_kept(share, ranked.shape[-1])
        return kth_largest(ranked, num_kept if per == "leaf" else jnp.maximum(num_kept, 1))

    def keep(leaf: Array) -> Array:
        sizes = jnp.abs(leaf)
        if per == "row":
            return _keep(leaf, sizes, kth(sizes)[..., None])
        if per in ("input", "unit"):
            if leaf.ndim < 2:
                return leaf
            sizes = jnp.linalg.norm(
                jax.lax.stop_gradient(leaf), axis=-1 if per == "input" else -2, keepdims=True
            )
        return _keep(leaf, sizes, kth(sizes.ravel()))

    def prox(w: PyTree, step: float | Array = 1.0) -> PyTree:
        del step
        if per != "all":
            return map_parameters(keep, w)
        flat = jnp.concatenate([jnp.abs(wide(leaf)).ravel() for leaf in parameters(w)])
        threshold = kth(jax.lax.stop_gradient(flat))
        return map_parameters(lambda leaf: _keep(leaf, jnp.abs(leaf), threshold), w)

    return prox


def relative(prox: Prox) -> Prox:
    """An operator whose step is in units of the root mean square of each leaf.

    Where the scale of `w` does not matter to the prediction, or a network can raise it at will, no
    absolute threshold stays one.
    """

    def apply(w: PyTree, step: float | Array) -> PyTree:
        def scaled(leaf: Array) -> Array:
            scale = jax.lax.stop_gradient(jnp.sqrt(jnp.square(leaf).mean()))
            return scale * prox(leaf / jnp.where(scale > 0, scale, 1.0), step)

        return map_parameters(scaled, w)

    return apply


def _keep(leaf: Array, sizes: Array, smallest: Array) -> Array:
    return jnp.where(sizes >= smallest.astype(sizes.dtype), leaf, jnp.zeros((), leaf.dtype))


def kth_largest(sizes: Array, k: int | Array) -> Array:
    """The k-th largest along the last axis of `sizes [..., N]`; infinity for k = 0."""
    # A full sort: lax.top_k would force an all-gather in sharded code.
    ordered = jnp.sort(sizes, axis=-1)
    at = jnp.take(ordered, ordered.shape[-1] - jnp.maximum(k, 1), axis=-1)
    return jnp.where(jnp.asarray(k) > 0, at, jnp.inf)


def count_kept(share: float | Array, size: int) -> int | Array:
    """Entries in a share, rounded down; the last digit of the product is not to cost an entry."""
    if isinstance(share, jax.core.Tracer):
        return jnp.floor(share * size + 1e-6 * size).astype(jnp.int32)
    return int(share * size + 1e-9 * size)
