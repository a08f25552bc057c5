"""The gate: which terms a model of few terms has, and their weights.

The dense model is known; wanted are k terms that say nearly the same. Reweighted least squares
finds which terms can carry it alone: a term's penalty is the inverse of its own last weight, so
weight drains from terms that others can replace. The k with the most weight left, after the net's
say, are chosen; their weights are those that come nearest to the dense logits on the support rows.
"""

import jax
import jax.numpy as jnp
import jax.scipy.linalg

from jaxmeta.types import Array

_ROUNDS = 4
_PENALTY = 0.3
_REFIT_PENALTY = 0.1
_SOFTNESS = 0.5


def select_terms(
    kernel: Array, terms: Array, row_weights: Array, preference: Array, num_terms: Array
) -> Array:
    """The kernel `[F, C]` with `num_terms` rows that are not zero.

    Args:
      kernel: of the dense model `[F, C]`.
      terms: of the support rows `[S, F]`, zeros where padded.
      row_weights: how much each row's logits matter `[S]`.
      preference: the net's say, added to the logarithm of each term's weight `[F]`.
      num_terms: k, int `[]`, at least 1.

    Gradients reach `preference` through a sigmoid in the place of the step (straight-through).
    """
    rows = jnp.sqrt(row_weights)[:, None] * terms
    targets = rows @ kernel
    importance = _importance(*map(jax.lax.stop_gradient, (kernel, rows, targets)))
    scores = jnp.log(importance + 1e-6) + preference
    gate = _top_k(scores, jnp.sum(importance > 0), num_terms)
    gated = rows * gate[None]
    return gate[:, None] * _ridge(gated, targets, _REFIT_PENALTY)


def _importance(kernel: Array, rows: Array, targets: Array) -> Array:
    """Root mean square over classes of the weights that are left, `[F]`."""

    def reweigh(_: int, kernel: Array) -> Array:
        scale = jnp.sqrt(_magnitude(kernel) + 1e-9)
        return scale[:, None] * _ridge(rows * scale[None], targets, _PENALTY)

    return _magnitude(jax.lax.fori_loop(0, _ROUNDS, reweigh, kernel))


def _magnitude(kernel: Array) -> Array:
    return jnp.sqrt(jnp.square(kernel).mean(axis=1))


def _ridge(rows: Array, targets: Array, penalty: float) -> Array:
    """`argmin_V |rows V - targets|^2 + penalty |V|^2`, by the system of the rows."""
    gram = jnp.matmul(rows, rows.T, precision="highest")
    floor = 1e-6 * jnp.trace(gram)
    system = gram + (penalty + floor) * jnp.eye(len(gram), dtype=gram.dtype)
    factor = jnp.linalg.cholesky(system, symmetrize_input=False)
    return rows.T @ jax.scipy.linalg.cho_solve((factor, True), targets)


def _top_k(scores: Array, num_live: Array, num_terms: Array) -> Array:
    """1 for the terms with the greatest scores, 0 for the others, `[F]`."""
    k = jnp.clip(num_terms, 1, jnp.maximum(num_live, 1))
    # A full sort: lax.top_k would force an all-gather in sharded code.
    threshold = jax.lax.stop_gradient(jnp.sort(scores)[len(scores) - k])
    soft = jax.nn.sigmoid((scores - threshold) / _SOFTNESS)
    hard = (scores >= threshold).astype(scores.dtype)
    return hard + soft - jax.lax.stop_gradient(soft)
