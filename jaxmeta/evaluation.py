"""Evaluation on unseen tasks: a mean with its 95% interval over tasks, and what `w` weighs."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxmeta import losses, parallel, sparsity
from jaxmeta.types import Array, MetaLearner, PyTree, Sampler, Task, TaskLoss
from jaxmeta.validation import check_positive

_Z95 = 1.959963984540054


class Evaluation(NamedTuple):
    """What one learner did on T tasks.

    Attributes:
      mean: mean of the metric over tasks.
      ci95: half-width of the 95% interval of that mean, over tasks.
      per_task: the metric of each task `[T]`.
      density: mean share of exact non-zeros in `w`.
      nonzeros: mean number of them.
      num_bytes: mean bytes to ship `w` (see `sparsity.num_bytes`).
    """

    mean: float
    ci95: float
    per_task: np.ndarray
    density: float
    nonzeros: float
    num_bytes: float

    @property
    def num_tasks(self) -> int:
        """Number of tasks T behind the mean."""
        return len(self.per_task)


def interval95(values: np.ndarray) -> float:
    """Half-width of the normal 95% interval of the mean of `values [T]`; infinite for T = 1."""
    if len(values) < 2:
        return math.inf
    return _Z95 * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def paired_difference(ours: Evaluation, theirs: Evaluation) -> tuple[float, float]:
    """Mean of `ours - theirs` over the same tasks, and the half-width of its 95% interval.

    Tasks differ more than learners do: pairing takes that part of the spread away.

    Raises:
      ValueError: if the two were not judged on equally many tasks.
    """
    if ours.num_tasks != theirs.num_tasks:
        raise ValueError(
            f"paired_difference compares learners on the same tasks, got {ours.num_tasks} and "
            f"{theirs.num_tasks} tasks; judge both with the same sampler, key and num_tasks."
        )
    difference = ours.per_task.astype(np.float64) - theirs.per_task
    return float(difference.mean()), interval95(difference)


def evaluate(
    learner: MetaLearner,
    theta: PyTree,
    tasks: Task | Sampler,
    *,
    key: Array | None = None,
    num_tasks: int = 1000,
    metric: TaskLoss = losses.accuracy,
    tasks_per_chunk: int = 10,
    mesh: Mesh | None = None,
) -> Evaluation:
    """Adapt to each task and judge on its query rows.

    Args:
      learner: the meta-learner.
      theta: its meta-parameters.
      tasks: a batch of tasks (leading axis T), or a sampler `key -> Task` from which `num_tasks`
        are drawn; the same sampler and key give every learner the same tasks.
      key: the key of the tasks, for a sampler only.
      num_tasks: how many to draw, for a sampler only.
      metric: `(z, y, mask) -> scalar`.
      tasks_per_chunk: tasks that are vmapped at once; bounds the memory, not the result.
      mesh: devices that share the tasks, as `parallel.task_mesh` returns; they need not divide
        them. With several processes each gives the same tasks, and gets the whole result.

    Raises:
      ValueError: for a sampler without a key, a count below 1, or a mesh of several axes.
    """
    check_positive(num_tasks=num_tasks, tasks_per_chunk=tasks_per_chunk)
    given: PyTree
    if isinstance(tasks, Task):
        sampler, given = None, tasks
    elif key is None:
        raise ValueError(
            "evaluate draws tasks from a sampler with a key: pass key=jax.random.key(0)."
        )
    else:
        sampler, given = tasks, jax.random.split(key, num_tasks)
    num_tasks = len(jax.tree.leaves(given)[0])
    if mesh is not None:
        theta = parallel.replicate(theta, mesh)
        given = parallel.shard_tasks(_filled_up(given, mesh.size), mesh)
    per_task = _judge_all(learner, metric, tasks_per_chunk, sampler, mesh, theta, given)
    values, density, nonzeros, num_bytes = (np.asarray(each)[:num_tasks] for each in per_task)
    return Evaluation(
        mean=float(values.mean(dtype=np.float64)),
        ci95=interval95(values),
        per_task=values,
        density=float(density.mean()),
        nonzeros=float(nonzeros.mean()),
        num_bytes=float(num_bytes.mean()),
    )


def _judge(learner: MetaLearner, metric: TaskLoss, theta: PyTree, task: Task) -> tuple[Array, ...]:
    w = learner.adapt(theta, task.support, description=task.description)
    z = learner.predict(theta, w, task.query.x)
    value = metric(z, task.query.y, task.query.mask)
    return jnp.asarray(value), sparsity.density(w), sparsity.nonzeros(w), sparsity.num_bytes(w)


def _filled_up(given: PyTree, num_devices: int) -> PyTree:
    """With copies of the last one, up to a number that the devices divide."""
    num_tasks = len(jax.tree.leaves(given)[0])
    places = np.minimum(np.arange(-(-num_tasks // num_devices) * num_devices), num_tasks - 1)
    return jax.tree.map(lambda leaf: leaf[places], given)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _judge_all(
    learner: MetaLearner,
    metric: TaskLoss,
    chunk: int,
    sampler: Sampler | None,
    mesh: Mesh | None,
    theta: PyTree,
    given: PyTree,
) -> tuple[Array, ...]:
    """What `_judge` says of every task; `given` are the tasks, or the keys to sample them from."""

    def judge(theta: PyTree, given: PyTree) -> tuple[Array, ...]:
        def judge_one(one: Any) -> tuple[Array, ...]:
            return _judge(learner, metric, theta, one if sampler is None else sampler(one))

        return jax.lax.map(judge_one, given, batch_size=chunk)

    if mesh is None:
        return judge(theta, given)
    return parallel.gathered(judge, mesh)(theta, given)
