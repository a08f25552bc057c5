"""The gate: which terms a model of few terms has, and their weights.

The dense model is known; wanted are k terms that say nearly the same. Near it, the loss grows by

    1/2 tr (V - V0)^T H (V - V0),   H = T^T R T,  its diagonal raised by a share

with T the terms of the support rows and R how much each row's logits matter. Terms go one at a
time, each time the one whose loss costs least when the others make up for it; those that are left
have the weights that make up best for all that went (the optimal brain surgeon).

References:
  Hassibi and Stork, Second order derivatives for network pruning, NIPS 1992.
"""

import jax
import jax.numpy as jnp
import jax.scipy.linalg

from jaxmeta.types import Array

_DAMPING = 0.01
"""Share of the diagonal of H that is added: what few rows say of two terms together is noisy."""


def select_terms(kernel: Array, terms: Array, row_weights: Array, num_terms: Array) -> Array:
    """The kernel `[F, C]` with `num_terms` rows that are not zero.

    Args:
      kernel: of the dense model `[F, C]`.
      terms: of the support rows `[S, F]`, zeros where padded.
      row_weights: how much each row's logits matter `[S]`.
      num_terms: k, int `[]`; at least one term is left.

    Gradients reach the kernel through the weights of the terms that are left, as if these terms
    were given.
    """
    rows = jnp.sqrt(row_weights)[:, None] * terms
    hessian = jnp.matmul(rows.T, rows, precision="highest")
    square = jnp.diagonal(hessian)
    live = square > 0
    hessian = hessian + jnp.diag(jnp.where(live, _DAMPING * square, 1.0))
    left = _eliminate(hessian, jax.lax.stop_gradient(kernel), live, jnp.maximum(num_terms, 1))
    within = left[:, None] & left[None]
    factor = jnp.linalg.cholesky(
        jnp.where(within, hessian, jnp.eye(len(hessian), dtype=hessian.dtype)),
        symmetrize_input=False,
    )
    pull = jnp.where(left[:, None], hessian @ jnp.where(live[:, None], kernel, 0.0), 0.0)
    return jax.scipy.linalg.cho_solve((factor, True), pull)


def _eliminate(hessian: Array, kernel: Array, live: Array, num_terms: Array) -> Array:
    """Which terms are left, bool `[F]`.

    The state is [H^-1, V] with H and V of the terms that are left; without term q, row r of both
    loses [H^-1]_rq / [H^-1]_qq times row q.
    """
    size = len(hessian)
    factor = jnp.linalg.cholesky(hessian, symmetrize_input=False)
    root = jax.scipy.linalg.solve_triangular(factor, jnp.eye(size, dtype=kernel.dtype), lower=True)
    state = jnp.concatenate([root.T @ root, jnp.where(live[:, None], kernel, 0.0)], axis=1)

    def too_many(carry: tuple[Array, Array]) -> Array:
        return carry[1].sum() > num_terms

    def remove(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        state, left = carry
        inverse = jnp.maximum(jnp.diagonal(state), 1e-12)
        cost = jnp.square(state[:, size:]).sum(axis=1) / inverse
        least = jnp.argmin(jnp.where(left, cost, jnp.inf))
        share = state[:, least] / inverse[least]
        return state - share[:, None] * state[least][None], left.at[least].set(False)

    return jax.lax.while_loop(too_many, remove, (state, live))[1]
