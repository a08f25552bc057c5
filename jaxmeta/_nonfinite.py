"""Bad tasks: one whose loss or gradient is NaN or infinite, and the step that has to go on.

A mean over tasks is not finite if one of them is not. Then the gradient is taken again task by
task, and the mean is over the good ones: a bad task counts as zeros, and the share of the good
ones is averaged along with the rest, by which it is divided in the end. Chunks and devices need
not have equally many of them, and still communicate once.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxmeta._deprecations import warn
from jaxmeta.types import Array, PyTree, Task

MODES = (None, "skip", "raise")
Metrics = dict[str, Array]


def check_mode(on_bad_task: str | None) -> str | None:
    """The mode by its present name; "mask" is the name of version 0.1 for "skip", and warns.

    Raises:
      ValueError: if it is none of `MODES`.
    """
    if on_bad_task == "mask":
        warn("make_step(on_bad_task='mask')", "on_bad_task='skip'", stacklevel=4)
        return "skip"
    if on_bad_task not in MODES:
        raise ValueError(
            f"on_bad_task={on_bad_task!r} is none of {', '.join(map(repr, MODES))}: leave bad "
            "tasks out of the mean, stop at the first, or do not look for them (None)."
        )
    return on_bad_task


def grad_skipping_nonfinite(
    mean_loss: Callable[..., tuple[Array, Metrics]],
    loss_of_task: Callable[..., tuple[Array, Metrics]],
):
    """The gradient of the mean over tasks, bad ones counted as zeros.

    Args:
      mean_loss: `(theta, tasks, keys, step) -> (loss, metrics)`, means over the tasks.
      loss_of_task: `(theta, task, key, step) -> (loss, metrics)` of one.

    Returns:
      `(theta, tasks, keys, step) -> (gradient, metrics, share)`; the share of good tasks is what
      `mean_over_finite` divides the other two by.
    """

    def gradient(theta: PyTree, tasks: Task, keys: Array, step: Array):
        (loss, metrics), grads = jax.value_and_grad(mean_loss, has_aux=True)(
            theta, tasks, keys, step
        )
        usual = (grads, metrics, jnp.ones(()))

        def add(total: PyTree, one: tuple[Task, Array]) -> tuple[PyTree, None]:
            (loss, metrics), grads = jax.value_and_grad(loss_of_task, has_aux=True)(
                theta, *one, step
            )
            good = _finite((loss, grads))
            found = (grads, metrics, jnp.ones(()))
            return jax.tree.map(lambda t, leaf: t + jnp.where(good, leaf, 0), total, found), None

        def one_by_one() -> PyTree:
            # As few gradients at once as can be: chunks are of the size that the usual case needs.
            total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, usual), (tasks, keys))
            return jax.tree.map(lambda leaf: leaf / len(keys), total)

        return jax.lax.cond(_finite((loss, grads)), lambda: usual, one_by_one)

    return gradient


def _finite(tree: PyTree) -> Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def mean_over_finite(
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
            "inner rate. make_step(on_bad_task='skip') leaves such tasks out."
        )
