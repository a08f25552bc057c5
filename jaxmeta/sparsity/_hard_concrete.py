"""The hard concrete gate, and the number of its gates that are open on average."""

import math

import jax
import jax.numpy as jnp

from jaxmeta._tree import new_parameters
from jaxmeta.sparsity._gates import Gate
from jaxmeta.types import Array, PyTree

_TEMPERATURE, _LOW, _HIGH = 2.0 / 3.0, -0.1, 1.1
"""beta, gamma and zeta of the paper: how sharp the gate is, and the interval it is stretched to."""


def hard_concrete(open_share: float = 0.9, *, shared: int | None = None) -> Gate:
    """A gate that multiplies each entry by a number in [0, 1], which is often exactly 0 or 1.

        u ~ Uniform(0, 1);  s = sigmoid((log u - log(1 - u) + log_alpha) / beta)
        v = w * min(1, max(0, s * (zeta - gamma) + gamma))

    Without a key s is `sigmoid(log_alpha)`. The parameters are the `log_alpha`, and `expected_l0`
    of them is what to penalise.

    Args:
      open_share: the probability that a gate is not shut before training, in (0, 1).
      shared: the axis of a leaf along which entries share a gate: 0 gates the features of
        embeddings `[S, F]`, -1 the inputs of kernels `[in, out]`. Leaves of one axis then have
        no gate. By default each entry has its own, and theta fits `w` of one shape.

    Returns:
      The gate.

    Raises:
      ValueError: if `open_share` is outside (0, 1).

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmeta import sparsity
      >>> gate = sparsity.hard_concrete(open_share=0.5)
      >>> parameters = gate.init(jnp.ones((3, 4)))
      >>> print(f"{sparsity.expected_l0(parameters):.1f}")
      6.0

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
    """The number of gates of `hard_concrete` that are open on average, which has a gradient.

        sum of P(gate > 0) = sum of sigmoid(log_alpha - beta * log(-gamma / zeta))

    Args:
      parameters: those of the gate, as its `init` returns them.

    Returns:
      A scalar `[]`.
    """
    gates = [jax.nn.sigmoid(leaf - _shift()).sum() for leaf in jax.tree.leaves(parameters)]
    return jnp.asarray(sum(gates, jnp.zeros(())))
