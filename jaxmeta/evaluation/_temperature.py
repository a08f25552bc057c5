"""The temperature of a learner's logits, by validation tasks."""

import jax.numpy as jnp
import numpy as np
from scipy import optimize, special

from jaxmeta._validation import check_positive
from jaxmeta.evaluation._predictions import for_each_task
from jaxmeta.transforms._temperature import TemperedTheta, log_shots
from jaxmeta.types import Array, MetaLearner, PyTree, Sampler, Task

_WIDEST = 12.0  # the logarithm of a temperature that no learner needs


def _answers(task: Task, z: Array) -> tuple[Array, Array, Array]:
    if task.query.y.ndim != 1:
        raise ValueError(
            f"A temperature is of logits and classes y [N], got targets {task.query.y.shape}."
        )
    return z, task.query.y, log_shots(task.support)


def fit_temperature(
    learner: MetaLearner,
    theta: PyTree,
    tasks: Task | Sampler,
    *,
    key: Array | None = None,
    num_tasks: int = 1000,
    by_shots: bool = False,
    tasks_per_chunk: int = 10,
) -> TemperedTheta:
    """The theta of `transforms.temperature(learner)` that has the least cross-entropy on tasks.

    Args:
      learner: the classifier that is not tempered yet.
      theta: its meta-parameters.
      tasks: validation tasks, a batch or a sampler, as for `evaluate`.
      key: of the tasks, for a sampler only.
      num_tasks: how many to draw, for a sampler only.
      by_shots: whether tasks of each number of shots that occurs get a temperature of their own;
        between these numbers it is interpolated.
      tasks_per_chunk: tasks that are vmapped at once.

    Raises:
      ValueError: for regression, or as `evaluate` does for tasks.
    """
    check_positive(num_tasks=num_tasks, tasks_per_chunk=tasks_per_chunk)
    (z, y, shots), known, _ = for_each_task(
        _answers,
        learner,
        theta,
        tasks,
        key=key,
        num_tasks=num_tasks,
        tasks_per_chunk=tasks_per_chunk,
    )
    knots = np.unique(shots) if by_shots else shots[:1] * 0
    found = [
        _least_loss(z[which], y[which], known[which])
        for which in (shots == knot if by_shots else slice(None) for knot in knots)
    ]
    return TemperedTheta(theta, jnp.asarray(knots), jnp.asarray(found, jnp.float32))


def _least_loss(z: np.ndarray, y: np.ndarray, known: np.ndarray) -> float:
    """The logarithm of the best temperature, of logits `[T, Q, C]`."""
    logits, classes = z[known].astype(np.float64), y[known]

    def loss(log_temperature: float) -> float:
        scaled = special.log_softmax(logits * np.exp(-log_temperature), axis=1)
        return -scaled[np.arange(len(classes)), classes].mean()

    return float(optimize.minimize_scalar(loss, bounds=(-_WIDEST, _WIDEST), method="bounded").x)
