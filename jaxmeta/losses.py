"""Masked losses and metrics of one task: `(z, y, mask) -> scalar`, a mean over the real rows."""

import math
from typing import TYPE_CHECKING

import jax.numpy as jnp
import optax

from jaxmeta._absent import is_absent
from jaxmeta._deprecations import renamed
from jaxmeta._precision import as_one_dtype, wide
from jaxmeta._validation import check_labels
from jaxmeta.types import Array

__all__ = [
    "accuracy",
    "answerable",
    "cross_entropy",
    "gaussian_nll",
    "masked_mean",
    "mean_squared_error",
]

if not TYPE_CHECKING:  # a checker knows the names of today alone
    __getattr__ = renamed(
        __name__,
        {
            "gaussian": "jaxmeta.losses.gaussian_nll",
            "squared_error": "jaxmeta.losses.mean_squared_error",
        },
    )

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


def masked_mean(values: Array, mask: Array) -> Array:
    """The mean over the rows that are real; zero where there is none.

    Args:
      values: `[N]`; those of padded rows may be anything.
      mask: `[N]`, 1 for a real row, 0 for padding.

    Returns:
      A scalar `[]`, in float32 or wider.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmeta import losses
      >>> print(losses.masked_mean(jnp.array([1.0, 3.0, jnp.nan]), jnp.array([1.0, 1.0, 0.0])))
      2.0
    """
    values = wide(values)
    mask = mask.astype(values.dtype)
    # `where`, not a product: a padded row may hold anything, infinities included.
    total = jnp.where(mask.astype(bool), values, 0.0).sum()
    return total / jnp.maximum(mask.sum(), 1.0)


def answerable(z: Array, y: Array, mask: Array) -> Array:
    """The mask without the rows that could not be right, because the task has no such class.

    Args:
      z: logits `[N, C]` as the learners of this library give them, which mark the classes that no
        support row has; anything else is answerable.
      y: classes `[N]`; targets `[N, D]` are all answerable.
      mask: `[N]`, 1 for a real row, 0 for padding.

    Returns:
      The mask `[N]`, zero in these rows as well.
    """
    if y.ndim != 1 or z.ndim != 2:
        return mask
    place = jnp.clip(y, 0, z.shape[1] - 1)[:, None]
    unknown = is_absent(jnp.take_along_axis(z, place, axis=1)[:, 0])
    return jnp.where(unknown, jnp.zeros((), mask.dtype), mask)


def cross_entropy(z: Array, y: Array, mask: Array) -> Array:
    """The cross-entropy in nats of logits against classes, averaged over the real rows.

    Rows of a class that no support row of the task has are left out, see `answerable`.

    Args:
      z: logits `[N, C]`.
      y: classes `[N]`, in 0..C-1 where the mask is 1.
      mask: `[N]`, 1 for a real row, 0 for padding.

    Returns:
      A scalar `[]`.

    Raises:
      ValueError: for other shapes, labels outside 0..C-1 or a mask that is neither 0 nor 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmeta import losses
      >>> z, y = jnp.array([[2.0, 0.0], [0.0, 0.0]]), jnp.array([0, -1])
      >>> print(f"{losses.cross_entropy(z, y, jnp.array([1.0, 0.0])):.3f}")
      0.127
    """
    check_labels(z, y, mask, name="cross_entropy")
    mask = answerable(z, y, mask)
    labels = jnp.where(mask.astype(bool), y, 0)
    return masked_mean(optax.softmax_cross_entropy_with_integer_labels(wide(z), labels), mask)


def mean_squared_error(z: Array, y: Array, mask: Array) -> Array:
    """The squared error of predictions, averaged over the targets of a row and the real rows.

    Args:
      z: predictions `[N, D]`, or `[N, 2 D]`, of which the second half, a predicted spread,
        is not read.
      y: targets `[N, D]`.
      mask: `[N]`, 1 for a real row, 0 for padding.

    Returns:
      A scalar `[]`, in the square of the targets' unit.

    Raises:
      ValueError: for other shapes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmeta import losses
      >>> z, y = jnp.array([[1.0], [2.0]]), jnp.array([[0.0], [5.0]])
      >>> print(losses.mean_squared_error(z, y, jnp.ones(2)))
      5.0
    """
    if y.ndim != 2 or z.shape not in (y.shape, (len(y), 2 * y.shape[1])):
        raise ValueError(
            f"mean_squared_error compares z [N, D], or [N, 2 D] with a spread, with y [N, D], got "
            f"{z.shape} and {y.shape}; give the learner as many outputs as there are targets."
        )
    _check_mask(mask, y)
    z, y = as_one_dtype(wide(z), wide(y))
    # Before the square: the gradient at a padded row is zero too, whatever the row holds.
    error = jnp.where(mask.astype(bool)[:, None], z[:, : y.shape[1]] - y, 0.0)
    return masked_mean(jnp.square(error).mean(axis=-1), mask)


def gaussian_nll(z: Array, y: Array, mask: Array) -> Array:
    """The negative log-likelihood in nats, summed over the targets, averaged over the real rows.

        sum over d of (y_d - mean_d)^2 / (2 std_d^2) + log std_d + log(2 pi) / 2

    Args:
      z: `[N, 2 D]`, the means and then the logarithms of the standard deviations.
      y: targets `[N, D]`.
      mask: `[N]`, 1 for a real row, 0 for padding.

    Returns:
      A scalar `[]`.

    Raises:
      ValueError: for other shapes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmeta import losses
      >>> print(f"{losses.gaussian_nll(jnp.zeros((1, 2)), jnp.zeros((1, 1)), jnp.ones(1)):.3f}")
      0.919
    """
    if y.ndim != 2 or z.shape != (len(y), 2 * y.shape[1]):
        raise ValueError(
            f"gaussian_nll needs z [N, 2 D], means and then log standard deviations, for y [N, D], "
            f"got {z.shape} and {y.shape}; neural_process predicts both."
        )
    _check_mask(mask, y)
    z, y = as_one_dtype(wide(z), wide(y))
    real = mask.astype(bool)[:, None]
    z, y = jnp.where(real, z, 0.0), jnp.where(real, y, 0.0)
    mean, log_std = jnp.split(z, 2, axis=-1)
    values = 0.5 * jnp.square((y - mean) * jnp.exp(-log_std)) + log_std + _HALF_LOG_TWO_PI
    return masked_mean(values.sum(axis=-1), mask)


def accuracy(z: Array, y: Array, mask: Array) -> Array:
    """The share of the real rows whose largest logit is that of their class.

    Rows of a class that no support row of the task has are left out, see `answerable`.

    Args:
      z: logits `[N, C]`.
      y: classes `[N]`, in 0..C-1 where the mask is 1.
      mask: `[N]`, 1 for a real row, 0 for padding.

    Returns:
      A scalar `[]` in [0, 1]; NaN if a real row has a logit that is NaN.

    Raises:
      ValueError: for other shapes, labels outside 0..C-1 or a mask that is neither 0 nor 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmeta import losses
      >>> z, y = jnp.array([[2.0, 0.0], [0.0, 1.0]]), jnp.array([0, 0])
      >>> print(losses.accuracy(z, y, jnp.ones(2)))
      0.5
    """
    check_labels(z, y, mask, name="accuracy")
    right = (jnp.argmax(z, axis=-1) == y).astype(jnp.float32)
    # The largest of NaNs is, by `argmax`, the first.
    right = jnp.where(jnp.isnan(z).any(axis=-1), jnp.nan, right)
    return masked_mean(right, answerable(z, y, mask))


def _check_mask(mask: Array, y: Array) -> None:
    if mask.shape != y.shape[:1]:
        raise ValueError(f"The mask is [N], one number a row of y {y.shape}, got {mask.shape}.")
