"""Masked losses and metrics of one task: `(z, y, mask) -> scalar`, a mean over the real rows."""

import jax.numpy as jnp
import optax

from jaxmeta.types import Array


def masked_mean(values: Array, mask: Array) -> Array:
    """Mean of `values [N]` over the rows where `mask [N]` is 1; zero where there is none."""
    mask = mask.astype(values.dtype)
    # `where`, not a product: a padded row may hold anything, infinities included.
    total = jnp.where(mask > 0, values, 0.0).sum()
    return total / jnp.maximum(mask.sum(), 1.0)


def cross_entropy(z: Array, y: Array, mask: Array) -> Array:
    """Cross-entropy in nats of logits `z [N, C]` against classes `y [N]`."""
    labels = jnp.where(mask > 0, y, 0)
    return masked_mean(optax.softmax_cross_entropy_with_integer_labels(z, labels), mask)


def squared_error(z: Array, y: Array, mask: Array) -> Array:
    """Squared error of `z [N, D]` against `y [N, D]`, averaged over D and the rows."""
    if z.shape != y.shape:
        raise ValueError(
            f"squared_error compares z [N, D] with y [N, D], got {z.shape} and {y.shape}; give "
            "the learner as many outputs as there are targets."
        )
    return masked_mean(jnp.square(z - y).mean(axis=-1), mask)


def accuracy(z: Array, y: Array, mask: Array) -> Array:
    """Share of rows whose largest logit in `z [N, C]` is class `y [N]`."""
    return masked_mean((jnp.argmax(z, axis=-1) == y).astype(jnp.float32), mask)
