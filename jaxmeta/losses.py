"""Masked losses and metrics of one task: `(z, y, mask) -> scalar`, a mean over the real rows."""

import math

import jax.numpy as jnp
import optax

from jaxmeta._absent import is_absent
from jaxmeta._precision import as_one_dtype, wide
from jaxmeta.types import Array
from jaxmeta.validation import check_labels

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


def masked_mean(values: Array, mask: Array) -> Array:
    """Mean of `values [N]` over the rows where `mask [N]` is 1; zero where there is none."""
    values = wide(values)
    mask = mask.astype(values.dtype)
    # `where`, not a product: a padded row may hold anything, infinities included.
    total = jnp.where(mask.astype(bool), values, 0.0).sum()
    return total / jnp.maximum(mask.sum(), 1.0)


def answerable(z: Array, y: Array, mask: Array) -> Array:
    """The mask `[N]` without the rows that could not be right: the task has no such class.

    Args:
      z: logits `[N, C]` as the learners of this library give them, which mark the classes that no
        support row has; anything else is answerable.
      y: classes `[N]`; targets `[N, D]` are all answerable.
      mask: `[N]`, 1 for a real row.
    """
    if y.ndim != 1 or z.ndim != 2:
        return mask
    place = jnp.clip(y, 0, z.shape[1] - 1)[:, None]
    unknown = is_absent(jnp.take_along_axis(z, place, axis=1)[:, 0])
    return jnp.where(unknown, jnp.zeros((), mask.dtype), mask)


def cross_entropy(z: Array, y: Array, mask: Array) -> Array:
    """Cross-entropy in nats of logits `z [N, C]` against classes `y [N]`.

    Rows of a class that the task has no support row of are left out, see `answerable`.

    Raises:
      ValueError: for other shapes, labels outside 0..C-1 or a mask that is neither 0 nor 1.
    """
    check_labels(z, y, mask, name="cross_entropy")
    mask = answerable(z, y, mask)
    labels = jnp.where(mask.astype(bool), y, 0)
    return masked_mean(optax.softmax_cross_entropy_with_integer_labels(wide(z), labels), mask)


def squared_error(z: Array, y: Array, mask: Array) -> Array:
    """Squared error of `z [N, D]` against `y [N, D]`, averaged over D and the rows.

    Further columns of `z [N, 2 D]`, a predicted spread, are not read.
    """
    if y.ndim != 2 or z.shape not in (y.shape, (len(y), 2 * y.shape[1])):
        raise ValueError(
            f"squared_error compares z [N, D], or [N, 2 D] with a spread, with y [N, D], got "
            f"{z.shape} and {y.shape}; give the learner as many outputs as there are targets."
        )
    _check_mask(mask, y)
    z, y = as_one_dtype(wide(z), wide(y))
    # Before the square: the gradient at a padded row is zero too, whatever the row holds.
    error = jnp.where(mask.astype(bool)[:, None], z[:, : y.shape[1]] - y, 0.0)
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
    _check_mask(mask, y)
    z, y = as_one_dtype(wide(z), wide(y))
    real = mask.astype(bool)[:, None]
    z, y = jnp.where(real, z, 0.0), jnp.where(real, y, 0.0)
    mean, log_std = jnp.split(z, 2, axis=-1)
    values = 0.5 * jnp.square((y - mean) * jnp.exp(-log_std)) + log_std + _HALF_LOG_TWO_PI
    return masked_mean(values.sum(axis=-1), mask)


def accuracy(z: Array, y: Array, mask: Array) -> Array:
    """Share of rows whose largest logit in `z [N, C]` is class `y [N]`; NaN if logits are NaN.

    Rows of a class that the task has no support row of are left out, see `answerable`.

    Raises:
      ValueError: for other shapes, labels outside 0..C-1 or a mask that is neither 0 nor 1.
    """
    check_labels(z, y, mask, name="accuracy")
    right = (jnp.argmax(z, axis=-1) == y).astype(jnp.float32)
    # The largest of NaNs is, by `argmax`, the first.
    right = jnp.where(jnp.isnan(z).any(axis=-1), jnp.nan, right)
    return masked_mean(right, answerable(z, y, mask))


def _check_mask(mask: Array, y: Array) -> None:
    if mask.shape != y.shape[:1]:
        raise ValueError(f"The mask is [N], one number a row of y {y.shape}, got {mask.shape}.")
