"""Gates with parameters of their own, which live in theta and are learned with it."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta._tree import map_parameters, new_parameters
from jaxmeta.sparsity._ranking import count_kept, kth_largest, top_k
from jaxmeta.types import Array, PyTree, Where


class Gate(NamedTuple):
    """A gate lets some entries of `w` through; it learns which, or how large they must be.

    Attributes:
      init: `w -> parameters`, from the entries that the gate is to stand before.
      apply: `(parameters, w, key) -> w` with exact zeros; `key=None` asks for no noise.
    """

    init: Callable[[PyTree], PyTree]
    apply: Callable[[PyTree, PyTree, Array | None], PyTree]


def learned_threshold(start: float = 0.01, *, rate: float = 1.0) -> Gate:
    """A soft threshold for each leaf, which is learned with theta.

        v = sign(w) * max(|w| - start * exp(rate * s), 0)

    Its parameters are one number s for each leaf, zero at the start.

    Args:
      start: the threshold before training, above zero.
      rate: how much faster than theta the logarithm of a threshold moves, above zero. Adam's steps
        have one size for all parameters, which is small for this one.

    Returns:
      The gate.

    Raises:
      ValueError: if `start` or `rate` is not above zero.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmeta import sparsity
      >>> gate = sparsity.learned_threshold(start=0.5)
      >>> w = jnp.array([2.0, 0.25])
      >>> print(gate.apply(gate.init(w), w, None))
      [1.5 0. ]

    References:
      Kusupati et al., Soft threshold weight reparameterization, arXiv:2002.03231.
    """
    if not (start > 0 and rate > 0):
        raise ValueError(f"learned_threshold needs start and rate above zero, got {start}, {rate}.")

    def init(w: PyTree) -> PyTree:
        return new_parameters(lambda leaf: jnp.zeros(()), w)

    def apply(parameters: PyTree, w: PyTree, key: Array | None) -> PyTree:
        del key

        def soften(leaf: Array, s: Array) -> Array:
            threshold = (start * jnp.exp(rate * s)).astype(leaf.dtype)
            return jnp.sign(leaf) * jnp.maximum(jnp.abs(leaf) - threshold, 0.0)

        return map_parameters(soften, w, parameters)

    return Gate(init, apply)


def score_top_k(share: float | Array, *, least: float | None = None) -> Gate:
    """A gate that lets the entries with the highest learned scores through, a given share of all.

    The parameters are a score for each entry. They start alike, and entries that tie are all let
    through. Every score has the gradient of its entry being let through, whether it is or not.

    Args:
      share: the share that is let through, in (0, 1]; it may be a traced number.
      least: if given, a key draws the share, `log share ~ Uniform(log least, 0)`. One theta then
        serves every share from `least` to 1.

    Returns:
      The gate.

    Raises:
      ValueError: if `share` is outside (0, 1], or `least` outside (0, 1).

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmeta import sparsity
      >>> gate = sparsity.score_top_k(0.5)
      >>> scores = jnp.array([2.0, 1.0])
      >>> print(gate.apply(scores, jnp.array([0.5, 5.0]), None))
      [0.5 0. ]

    References:
      Ramanujan et al., What's hidden in a randomly weighted neural network?, arXiv:1911.13299.
    """
    top_k(share)  # refuses what it cannot keep, now
    if least is not None:
        check_least(least)

    def init(w: PyTree) -> PyTree:
        return new_parameters(jnp.ones_like, w)

    def apply(parameters: PyTree, w: PyTree, key: Array | None) -> PyTree:
        drawn = share if key is None or least is None else draw_share(key, least)
        scores = jax.lax.stop_gradient(jax.tree.leaves(parameters))
        flat = jnp.concatenate([score.ravel() for score in scores])
        smallest = kth_largest(flat, jnp.maximum(count_kept(drawn, flat.size), 1))

        def gate(leaf: Array, score: Array) -> Array:
            # The difference is an exact zero; its gradient is not.
            chosen = (score >= smallest).astype(score.dtype)
            return leaf * (chosen + (score - jax.lax.stop_gradient(score)))

        return map_parameters(gate, w, parameters)

    return Gate(init, apply)


def check_least(least: float) -> None:
    """Raise ValueError unless shares can be drawn from `least` to 1."""
    if not 0.0 < least < 1.0:
        raise ValueError(f"Shares are drawn from least to 1: 0 < least < 1, got {least}.")


def draw_share(key: Array, least: float) -> Array:
    """A share of entries from `least` to 1, its logarithm uniform."""
    return jnp.exp(jax.random.uniform(key, minval=math.log(least), maxval=0.0))


def masked(gate: Gate, where: Where) -> Gate:
    """A gate for the entries that `where` selects; the others pass as they are.

    Args:
      gate: the gate.
      where: `w -> tree of bools`, or a prefix of that tree.

    Returns:
      The gate, whose parameters are those of the selected entries alone.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmeta import sparsity
      >>> gate = sparsity.masked(
      ...     sparsity.learned_threshold(0.5), lambda w: {"kernel": True, "bias": False}
      ... )
      >>> w = {"kernel": jnp.array([0.25]), "bias": jnp.array([0.25])}
      >>> gated = gate.apply(gate.init(w), w, None)
      >>> print(gated["kernel"], gated["bias"])
      [0.] [0.25]
    """

    def selected(w: PyTree) -> PyTree:
        return jax.tree.map(
            lambda choice, part: part if choice else jax.tree.map(lambda _: None, part), where(w), w
        )

    def init(w: PyTree) -> PyTree:
        return gate.init(selected(w))

    def apply(parameters: PyTree, w: PyTree, key: Array | None) -> PyTree:
        gated = gate.apply(parameters, selected(w), key)
        return jax.tree.map(
            lambda leaf, kept: leaf if kept is None else kept,
            w,
            gated,
            is_leaf=lambda node: node is None,
        )

    return Gate(init, apply)
