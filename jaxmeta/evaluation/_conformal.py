"""Prediction sets and intervals of a learner that hold on new tasks as often as is said."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxmeta._validation import check_positive
from jaxmeta.evaluation._calibration import conformal_threshold
from jaxmeta.evaluation._predictions import for_each_task
from jaxmeta.types import Array, MetaLearner, PyTree, Sampler, Task


def how_wrong(z: Array, y: Array) -> Array:
    """Scores `[N]` of predictions, the larger the worse.

    Of logits `z [N, C]` and classes `y [N]`: one less the probability of the right class. Of
    targets `y [N, D]`: |y - z|, the largest of a row, in units of the predicted standard deviation
    if `z [N, 2 D]` has its logarithm as second half.
    """
    if y.ndim == 1:
        p = jax.nn.softmax(z, axis=-1)
        return 1.0 - jnp.take_along_axis(p, jnp.maximum(y, 0)[:, None], axis=-1)[:, 0]
    size = y.shape[1]
    error = jnp.abs(y - z[:, :size])
    return (error * jnp.exp(-z[:, size:]) if z.shape[1] == 2 * size else error).max(axis=-1)


def prediction_interval(
    z: ArrayLike, threshold: float, num_targets: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends `[N, D]` of the intervals `z +- threshold * sigma`.

    Args:
      z: predictions of D targets `[N, D]`, for which sigma is one, or `[N, 2 D]` with the logarithm
        of sigma as second half.
      threshold: of `conformal`.
      num_targets: D.

    Raises:
      ValueError: for another shape.

    Example:
      >>> low, high = prediction_interval([[1.0, 0.0]], 2.0, 1)
      >>> print(low[0, 0], high[0, 0])
      -1.0 3.0
    """
    z = np.asarray(z, np.float64)
    if z.ndim != 2 or z.shape[1] not in (num_targets, 2 * num_targets):
        raise ValueError(
            f"prediction_interval reads z [N, D] or [N, 2 D] of D={num_targets}, got {z.shape}."
        )
    mean, log_std = z[:, :num_targets], z[:, num_targets:]
    half = threshold * np.exp(log_std) if log_std.size else np.full_like(mean, threshold)
    return mean - half, mean + half


def conformal(
    learner: MetaLearner,
    theta: PyTree,
    tasks: Task | Sampler,
    level: float = 0.9,
    *,
    key: Array | None = None,
    num_tasks: int = 1000,
    score: Callable[[Array, Array], Array] = how_wrong,
    over: Literal["tasks", "classes"] = "tasks",
    tasks_per_chunk: int = 10,
) -> float:
    """A threshold for prediction sets that hold at the level, over new tasks and their rows.

    The sets are `prediction_set(softmax(z), threshold)`, and `prediction_interval(z, threshold, D)`
    for regression. They hold for any learner, any theta, and any number of shots, if the
    calibration tasks and the new one are exchangeable: of classes that were not trained on, if the
    new ones are not. Many tasks of few classes are not: for rows of new classes take the classes
    as what is exchanged (`over="classes"`). Sets then hold at the level on average over the draw of
    the calibration classes, not for each draw.

    Args:
      learner: the meta-learner.
      theta: its meta-parameters.
      tasks: calibration tasks, a batch or a sampler, as for `evaluate`.
      level: the probability that a set holds the right class.
      key: of the tasks, for a sampler only.
      num_tasks: how many to draw, for a sampler only.
      score: `(z, y) -> [N]`, the larger the worse; by default one less the probability of the
        right class, or |y - z| / sigma for targets.
      over: "classes" for the classes of the calibration rows in the place of their tasks, from a
        sampler that says which it draws, as `tasks.episodes` does.
      tasks_per_chunk: tasks that are vmapped at once.

    Returns:
      The threshold; infinite if the tasks, or classes, are too few for the level.

    Raises:
      ValueError: for a level outside of 0..1, a score that is NaN, or as `evaluate` does for tasks.

    Example:
      >>> import jax
      >>> from jaxmeta import evaluation, learners, networks, tasks
      >>> sampler = tasks.two_tasks()
      >>> learner = learners.prototypes(networks.identity(), ways=2)
      >>> theta = learner.init(jax.random.key(0), sampler(jax.random.key(1)))
      >>> key = jax.random.key(2)
      >>> q = evaluation.conformal(learner, theta, sampler, 0.8, key=key, num_tasks=20)
      >>> 0.0 < q <= 1.0
      True

    References:
      As `conformal_threshold`.
    """
    check_positive(num_tasks=num_tasks, tasks_per_chunk=tasks_per_chunk)

    def scored(task: Task, z: Array) -> tuple[Array, Array]:
        return score(z, task.query.y), task.query.y

    (scores, y), known, held = for_each_task(
        scored,
        learner,
        theta,
        tasks,
        key=key,
        num_tasks=num_tasks,
        tasks_per_chunk=tasks_per_chunk,
        over=over,
    )
    which, rows = np.nonzero(known)
    units = which if held is None else held[which, y[which, rows]]
    return conformal_threshold(scores[which, rows], level, units)
