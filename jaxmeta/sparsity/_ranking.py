"""Operators that keep the largest entries, rows or columns and set the others to exact zeros."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

from jaxmeta._jax_compat import is_concrete
from jaxmeta._precision import wide
from jaxmeta._tree import map_parameters, parameters
from jaxmeta.types import Array, Prox, PyTree

Per = Literal["all", "leaf", "row", "input", "unit"]
"""What is ranked together, see `top_k`."""


def hard_threshold(least: int = 0, most: int | None = None) -> Prox:
    """Keep the entries that are worth `step`, but no fewer than `least` and no more than `most`.

    It is the prox of the number of non-zeros, inside these limits: an entry is worth half its
    square. All of `w` is ranked together.

    Args:
      least: the fewest entries to keep, zero or more.
      most: the most entries to keep, one or more; None for no limit.

    Returns:
      `prox(w, step) -> v`. Entries that tie with the last one kept are all kept.

    Raises:
      ValueError: if the limits are negative or contradict each other.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmeta import sparsity
      >>> print(sparsity.hard_threshold(most=2)(jnp.array([3.0, -0.1, 2.0, 4.0]), 0.5))
      [3. 0. 0. 4.]
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
      share: the share of the entries that is kept, in (0, 1], rounded down to whole entries. It may
        be a traced number, such as one that falls with the outer step.
      per: what is ranked together.
        `"all"`: the entries of the whole of `w`; at least one is kept.
        `"leaf"`: the entries of each leaf. A layer keeps its share whatever the size of the others,
        and a leaf too small for one entry keeps none.
        `"row"`: the entries along the last axis of each leaf. Every embedding keeps as many, at
        least one.
        `"input"`, `"unit"`: whole rows or columns of kernels `[in, out]`, by their norms. At least
        one is kept, leaves of one axis stay as they are, and what is left is a smaller matrix.

    Returns:
      `prox(w, step=1.0) -> v`, in which `step` plays no part. Entries that tie with the last one
      kept are all kept.

    Raises:
      ValueError: if `share` is a known number outside (0, 1], or `per` is another word.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmeta import sparsity
      >>> print(sparsity.top_k(0.5)(jnp.array([3.0, -1.0, 2.0, -4.0])))
      [ 3.  0.  0. -4.]
    """
    if is_concrete(share) and not 0.0 < share <= 1.0:
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
    if not is_concrete(share):
        return jnp.floor(share * size + 1e-6 * size).astype(jnp.int32)
    return int(share * size + 1e-9 * size)
