"""Masked losses and metrics of one task: `(z, y, mask) -> scalar`, a mean over the real rows."""

import math

import jax.numpy as jnp
import optax

from jaxmeta.types import Array

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


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
    """Squared error of `z [N, D]` against `y [N, D]`, averaged over D and the rows.

    Further columns of `z [N, 2 D]`, a predicted spread, are not read.
    """
    if y.ndim != 2 or z.shape not in (y.shape, (len(y), 2 * y.shape[1])):
        raise ValueError(
            f"squared_error compares z [N, D], or [N, 2 D] with a spread, with y [N, D], got "
            f"{z.shape} and {y.shape}; give the learner as many outputs as there are targets."
        )
    # Before the square: the gradient at a padded row is zero too, whatever the row holds.
    error = jnp.where((mask > 0)[:, None], z[:, : y.shape[1]] - y, 0.0)
    return masked_mean(jnp.square(error).mean(axis=-1), mask)


def gaussian(z: Array, y: Array, mask: Array) -> Array:
    """Negative log-likelihood in nats of `y [N, D]`, summed over D, averaged over the rows.

    `z [N, 2 D]` holds the means and then the logarithms of the standard deviations:

        sum over d of (y_d - mean_d)^2 / (2 std_d^2) + log std_d + log(2 pi) / 2
    """
    if y.ndim != 2 or z.shape != (len(y), 2 * y.shape[1]):
        raise ValueError(
            f"gaussian needs z [N, 2 D], means and then log standard deviations, for y [N, D], got "
            f"{z.shape} and {y.shape}; neural_process predicts both."
        )
    real = (mask > 0)[:, None]
    z, y = jnp.where(real, z, 0.0), jnp.where(real, y, 0.0)
    mean, log_std = jnp.split(z, 2, axis=-1)
    values = 0.5 * jnp.square((y - mean) * jnp.exp(-log_std)) + log_std + _HALF_LOG_TWO_PI
    return masked_mean(values.sum(axis=-1), mask)


def accuracy(z: Array, y: Array, mask: Array) -> Array:
    """Share of rows whose largest logit in `z [N, C]` is class `y [N]`."""
    return masked_mean((jnp.argmax(z, axis=-1) == y).astype(jnp.float32), mask)
