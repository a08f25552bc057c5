"""The bank: logistic fits in the dictionary, several views of it at several penalties.

None of it is learned, and no gradient goes through it. A view v scales each term, and a fit is

    argmin_f  sum over rows of cross-entropy(f_i, y_i) + lambda / 2 * f^T K^-1 f,   K = Z_v Z_v^T

with Z_v the scaled terms and a column for the intercept. Each step of Newton's method, in the S
values f rather than the F weights, weighs row i by W_i = max_c 2 p_ic (1 - p_ic), which is at least
the curvature and equals it for two classes; so one factorisation serves all classes. From large
lambda to small, each fit starts where the last one ended. What the fit would say of row i had it
not been there (approximate leave-one-out) comes from the same factor.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np

from jaxmeta._absent import with_absent
from jaxmeta.tabular._arrays import TERMS, Dictionary
from jaxmeta.types import Array

PENALTIES = ((20.0, 2), (4.0, 2), (0.8, 2), (0.05, 3))
"""lambda, and Newton steps spent on it."""

NUM_VIEWS = 4
_INTERCEPT = 30.0  # the square of the column of the intercept: its weight is hardly penalised
_LEAST_WEIGHT = 0.01


class Bank(NamedTuple):
    """B = views x penalties fits; view by view, penalties falling.

    Attributes:
      kernels: weights of the terms `[B, F, C]`, centred over the present classes.
      biases: `[B, C]`, likewise.
      logits: of the support rows `[B, S, C]`.
      left_out: of each support row by the fit without it `[B, S, C]`.
    """

    kernels: Array
    biases: Array
    logits: Array
    left_out: Array


def view_scales(dictionary: Dictionary, num_landmarks: int) -> Array:
    """What each view multiplies the terms by, `[V, F]`."""
    num_columns = len(dictionary.centre)
    inverse = dictionary.inverse_std[: TERMS * num_columns].reshape(num_columns, TERMS)
    std = jnp.where(inverse > 0, 1.0 / jnp.where(inverse > 0, inverse, 1.0), 0.0)
    categorical = dictionary.categorical[:, None]

    def view(value: float, score: float, hinge: float, bump: float, weight=None) -> Array:
        numeric = np.asarray([value, score, hinge, hinge, hinge, hinge, 0.0], np.float32)
        scale = jnp.where(categorical, std, jnp.broadcast_to(numeric, std.shape))
        scale = scale.at[:, -1].set(std[:, -1])
        if weight is not None:
            scale = scale * weight[:, None]
        return jnp.concatenate([scale.ravel(), jnp.full(num_landmarks, bump)])

    square = jnp.square(dictionary.metric.reshape(num_columns, TERMS)).max(axis=1)
    present = inverse.max(axis=1) > 0
    mean = jnp.where(present, square, 0.0).sum() / jnp.maximum(present.sum(), 1)
    relevance = jnp.sqrt(square / jnp.maximum(mean, 1e-6))
    return jnp.stack(
        [
            view(1.0, 0.0, 0.0, 0.0),
            view(0.5, 0.5, 0.4, 0.0),
            view(0.0, 0.5, 0.0, 1.0),
            view(0.3, 0.7, 0.3, 0.3, relevance),
        ]
    )


def fit_bank(terms: Array, members: Array, scales: Array) -> Bank:
    """Fit all views at all penalties.

    Args:
      terms: of the support rows `[S, F]`, zeros where padded.
      members: class membership `[S, C]`, zeros where padded.
      scales: of the terms in each view `[V, F]`.
    """
    present = members.sum(axis=0) > 0

    def of_view(scale: Array) -> Bank:
        scaled = terms * scale[None]
        # Padded rows have weight zero in every step, whatever the intercept adds.
        gram = jnp.matmul(scaled, scaled.T, precision="highest") + _INTERCEPT
        duals, logits, left_out = _fit_path(gram, members, present)
        duals = duals - _mean(duals, present)
        kernels = scale[None, :, None] * jnp.einsum("sf,psc->pfc", scaled, duals)
        return Bank(kernels, _INTERCEPT * duals.sum(axis=1), logits, left_out)

    bank = jax.vmap(of_view)(scales)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), bank)
    return jax.lax.stop_gradient(flat)


def _mean(z: Array, present: Array) -> Array:
    return jnp.where(present, z, 0.0).sum(axis=-1, keepdims=True) / jnp.maximum(present.sum(), 1)


def class_probabilities(logits: Array, present: Array) -> Array:
    """Softmax over the present classes, `[..., C]`; zeros for the others."""
    return jax.nn.softmax(with_absent(logits, present), axis=-1)


def _fit_path(gram: Array, members: Array, present: Array) -> tuple[Array, Array, Array]:
    """Duals, logits and left-out logits at each penalty: `[P, S, C]` each."""
    penalties, steps = np.asarray(PENALTIES, np.float32).T
    ends = np.cumsum(steps.astype(int)) - 1

    def step(logits: Array, penalty: Array) -> tuple[Array, tuple[Array, Array]]:
        dual, logits = _newton(gram / penalty, members, present, logits)
        return logits, (dual / penalty, logits)

    path = jnp.asarray(np.repeat(penalties, steps.astype(int)))
    duals, logits = jax.lax.scan(step, jnp.zeros_like(members), path)[1]
    left_out = jax.lax.map(
        lambda fit: _leave_out(gram / fit[0], members, present, fit[1]),
        (jnp.asarray(penalties), logits[ends]),
    )
    return duals[ends], logits[ends], left_out


def _newton(gram: Array, members: Array, present: Array, logits: Array) -> tuple[Array, Array]:
    """One step: the dual a, and f = K a."""
    p = class_probabilities(logits, present)
    weight = jnp.maximum((2.0 * p * (1.0 - p)).max(axis=1), _LEAST_WEIGHT)
    root, factor = _factorise(gram, weight, members)
    right = (weight[:, None] * logits + members - p) * members.sum(axis=1, keepdims=True)
    moved = jax.scipy.linalg.cho_solve((factor, True), root[:, None] * (gram @ right))
    dual = right - root[:, None] * moved
    return dual, gram @ dual


def _leave_out(gram: Array, members: Array, present: Array, logits: Array) -> Array:
    """Without row i, its logits move by leverage / (1 - leverage) of its own pull.

    Here W is the curvature along pulls as they are to be expected, tr H^2 / tr H, with
    H = diag(p) - p p^T: the same as above for two classes, and less for more.
    """
    p = class_probabilities(logits, present)
    square, cube = (p**2).sum(axis=1), (p**3).sum(axis=1)
    curvature = (square - 2.0 * cube + square**2) / jnp.maximum(1.0 - square, 1e-6)
    weight = jnp.maximum(curvature, _LEAST_WEIGHT)
    _, factor = _factorise(gram, weight, members)
    inverse = jax.scipy.linalg.solve_triangular(factor, jnp.eye(len(gram)), lower=True)
    rest = jnp.maximum(jnp.square(inverse).sum(axis=0), 1e-3)  # one minus the leverage
    pull = (members - p) * members.sum(axis=1, keepdims=True)
    return logits - ((1.0 - rest) / (weight * rest))[:, None] * pull


def _factorise(gram: Array, weight: Array, members: Array) -> tuple[Array, Array]:
    """W^1/2, zero where padded, and the Cholesky factor of B = I + W^1/2 K W^1/2."""
    root = jnp.sqrt(weight) * members.sum(axis=1)
    system = root[:, None] * gram * root[None] + jnp.eye(len(gram), dtype=gram.dtype)
    return root, jnp.linalg.cholesky(system, symmetrize_input=False)
