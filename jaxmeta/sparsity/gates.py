"""Gates with parameters of their own, which live in theta and are learned with it."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxmeta._precision import standard_promotion
from jaxmeta._tree import map_parameters, new_parameters
from jaxmeta.sparsity.operators import count_kept, kth_largest, top_k
from jaxmeta.types import Array, Prox, PyTree


class Gate(NamedTuple):
    """What lets some of the entries of `w` through; it learns which, or how large they must be.

    Attributes:
      init: `w -> parameters`, from the entries that it is to stand before.
      apply: `(parameters, w, key) -> w` with exact zeros; `key=None` asks for no noise.
    """

    init: Callable[[PyTree], PyTree]
    apply: Callable[[PyTree, PyTree, Array | None], PyTree]


def straight_through(prox: Prox) -> Prox:
    """The values of `prox` with the gradient of doing nothing: what is shut out learns as well.

    References:
      Bengio, Leonard and Courville, Estimating or propagating gradients through stochastic
      neurons, arXiv:1308.3432.
    """

    def apply(w: PyTree, step: float | Array = 1.0) -> PyTree:
        # Zeros stay exact: w - w is.
        return map_parameters(
            lambda leaf, kept: leaf + jax.lax.stop_gradient(kept - leaf), w, prox(w, step)
        )

    return apply


def learned_threshold(start: float = 0.01, *, rate: float = 1.0) -> Gate:
    """A soft threshold for each leaf that is learned with theta.

        v = sign(w) * max(|w| - start * exp(rate * s), 0)

    Args:
      start: where the thresholds start.
      rate: how much faster than theta the logarithm of a threshold moves; Adam's steps are of
        one size for all parameters, which is small for this one.

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


_TEMPERATURE, _LOW, _HIGH = 2.0 / 3.0, -0.1, 1.1
"""beta, gamma and zeta of the paper: how sharp the gate is, and the interval it is stretched to."""


def hard_concrete(open_share: float = 0.9, *, shared: int | None = None) -> Gate:
    """Multiply each entry by a gate in [0, 1] that is shut, or open, with some probability.

        u ~ Uniform(0, 1);  s = sigmoid((log u - log(1 - u) + log_alpha) / beta)
        v = w * min(1, max(0, s * (zeta - gamma) + gamma))

    Without a key s is `sigmoid(log_alpha)`. `expected_l0` is what to penalise.

    Args:
      open_share: probability that a gate is not shut, at the start, in (0, 1).
      shared: the axis of a leaf along which entries share a gate: 0 gates the features of
        embeddings `[S, F]`, -1 the inputs of kernels `[in, out]`. Then leaves of one axis have
        no gate. By default each entry has its own, and theta fits `w` of one shape.

    References:
      Louizos, Welling and Kingma, Learning sparse neural networks through L0 regularization,
      arXiv:1712.01312.
    """
    if not 0.0 < open_share < 1.0:
        raise ValueError(f"hard_concrete starts with an open share in (0, 1), got {open_share}.")
    start = math.log(open_share / (1.0 - open_share)) + _shift()

    def gates_of(leaf: Array) -> Array | None:
        if shared is not None and jnp.ndim(leaf) < 2:
            return None
        mean = leaf if shared is None else leaf.mean(axis=shared, keepdims=True)
        return jnp.full_like(mean, start)

    def init(w: PyTree) -> PyTree:
        return new_parameters(gates_of, w)

    def apply(parameters: PyTree, w: PyTree, key: Array | None) -> PyTree:
        leaves, structure = jax.tree.flatten(w)
        log_alphas = structure.flatten_up_to(parameters)
        keys = [None] * len(leaves) if key is None else jax.random.split(key, len(leaves))
        gated = [
            leaf if log_alpha is None else leaf * _open(log_alpha, each)
            for leaf, log_alpha, each in zip(leaves, log_alphas, keys, strict=True)
        ]
        return structure.unflatten(gated)

    return Gate(init, apply)


def _open(log_alpha: Array, key: Array | None) -> Array:
    """How far each gate is open, in [0, 1]."""
    s = jax.nn.sigmoid(log_alpha)
    if key is not None:
        noise = jax.random.logistic(key, log_alpha.shape, log_alpha.dtype)
        s = jax.nn.sigmoid((noise + log_alpha) / _TEMPERATURE)
    return jnp.clip(s * (_HIGH - _LOW) + _LOW, 0.0, 1.0)


def _shift() -> float:
    """`log_alpha` of a gate that is shut as often as not."""
    return _TEMPERATURE * math.log(-_LOW / _HIGH)


def expected_l0(parameters: PyTree) -> Array:
    """How many of the gates of `hard_concrete` are open on average; it has a gradient.

    sum of P(gate > 0) = sum of sigmoid(log_alpha - beta * log(-gamma / zeta))
    """
    gates = [jax.nn.sigmoid(leaf - _shift()).sum() for leaf in jax.tree.leaves(parameters)]
    return jnp.asarray(sum(gates, jnp.zeros(())))


def ranked(share: float | Array, *, least: float | None = None) -> Gate:
    """Let the entries of the highest learned scores through, a given share of all.

    The scores start alike, and entries that tie are all let through. Every entry's score has the
    gradient of its being let through, whether it is or not.

    Args:
      share: the share, in (0, 1]; may be a traced number.
      least: if given, a key draws the share, `log share ~ Uniform(log least, 0)`: one theta then
        serves every share from there on.

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


def only(gate: Gate, where: Callable[[PyTree], PyTree]) -> Gate:
    """A gate for the entries that `where` selects; the others pass as they are.

    Args:
      gate: the gate.
      where: `w -> tree of bools` (or a prefix of it).
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


def sparsemax(scores: Array) -> Array:
    """The point of the simplex next to `scores [..., N]`: a softmax with exact zeros.

        p = argmin over the simplex of |p - scores|^2 = max(scores - tau, 0)

    References:
      Martins and Astudillo, From softmax to sparsemax, arXiv:1602.02068.
    """
    project = standard_promotion(optax.projections.projection_simplex)
    return jnp.vectorize(project, signature="(n)->(n)")(scores)
