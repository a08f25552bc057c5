"""Bad tasks: one whose loss or gradient is NaN or infinite, and the step that has to go on.

A mean over tasks is NaN if one of them is. Here the gradient is taken task by task, so that the
mean can be over the good ones. A bad task counts as zeros, and the share of the good ones is
averaged along with the rest, by which the mean is divided in the end: chunks and devices need not
have equally many of them, and still communicate once.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxmeta.types import Array, PyTree, Task

MODES = (None, "mask", "raise")
Metrics = dict[str, Array]


def check_mode(on_bad_task: str | None) -> None:
    """Raise ValueError unless it is one of `MODES`."""
    if on_bad_task not in MODES:
        raise ValueError(
            f"on_bad_task={on_bad_task!r} is none of {', '.join(map(repr, MODES))}: leave bad "
            "tasks out of the mean, stop at the first, or do not look for them (None)."
        )


def masked_gradient(loss_of_task: Callable[..., tuple[Array, Metrics]]):
    """The gradient of the mean over tasks, bad ones counted as zeros.

    Args:
      loss_of_task: `(theta, task, key, step) -> (loss, metrics)` for one task.

    Returns:
      `(theta, tasks, keys, step) -> (gradient, metrics, share)`; the share of good tasks is what
      `over_good` divides the other two by.
    """

    def of_task(theta: PyTree, task: Task, key: Array, step: Array):
        loss_and_gradient = jax.value_and_grad(loss_of_task, has_aux=True)
        (loss, metrics), grads = loss_and_gradient(theta, task, key, step)
        finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((loss, grads))]
        good = jnp.stack(finite).all()
        blanked = jax.tree.map(lambda leaf: jnp.where(good, leaf, 0), (grads, metrics))
        return *blanked, good.astype(jnp.float32)

    def gradient(theta: PyTree, tasks: Task, keys: Array, step: Array):
        per_task = jax.vmap(of_task, in_axes=(None, 0, 0, None))(theta, tasks, keys, step)
        return jax.tree.map(lambda values: values.mean(axis=0), per_task)

    return gradient


def over_good(
    grads: PyTree, metrics: Metrics, share: Array, *, num_tasks: int, step: Array, stop: bool
) -> tuple[PyTree, Metrics]:
    """Means over all `num_tasks` tasks turned into means over the good ones, and the bad counted.

    NaN if there is no good one: an optimiser in `optax.apply_if_finite` skips that step. With
    `stop` the program ends with an error if there is a bad one.
    """
    num_bad = jnp.round((1 - share) * num_tasks).astype(jnp.int32)
    if stop:
        jax.debug.callback(functools.partial(_refuse, num_tasks), num_bad, step)
    grads, metrics = jax.tree.map(lambda leaf: leaf / share, (grads, metrics))
    return grads, metrics | {"bad_tasks": num_bad}


def _refuse(num_tasks: int, num_bad: Array, step: Array) -> None:
    if num_bad > 0:
        raise ValueError(
            f"{num_bad} of the {num_tasks} tasks of outer step {step} have a loss or a gradient "
            "that is NaN or infinite: look for such values in their support sets, or lower the "
            "inner rate. make_step(on_bad_task='mask') leaves such tasks out."
        )
