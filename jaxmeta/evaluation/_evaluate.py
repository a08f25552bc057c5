"""Adapt to unseen tasks, and judge on their query rows."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxmeta import losses, parallel, sparsity
from jaxmeta._batches import check_batch, check_numbered, classes_read, nth, with_classes_read
from jaxmeta._programs import call_compiled
from jaxmeta._validation import check_positive, check_task, violations
from jaxmeta.evaluation._intervals import (
    Evaluation,
    Over,
    interval95,
    interval_over,
    mean_of_known,
)
from jaxmeta.evaluation._over_classes import check_classes
from jaxmeta.types import Array, MetaLearner, PyTree, Sampler, Task, TaskLoss


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
    over: Over = "tasks",
    num_classes: int | None = None,
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
      over: "classes" or "groups" for an interval that holds for tasks of new ones as well, from a
        sampler that says which it draws, as `tasks.episodes` does; that over tasks is there anyway.
      num_classes: of the finite pool that all classes come from; by default it has no end.

    Raises:
      ValueError: for a sampler without a key, a count below 1, a mesh of several axes; for a list
        of tasks or a single one; for tasks that are not well-formed (labels that are no class,
        NaN, a mask that is neither 0 nor 1), of which the message names the first; for
        targets without a metric, or a metric that does not return a number; for an interval over
        what the sampler does not say, or that does not hold (`interval_over_classes`).
    """
    check_positive(num_tasks=num_tasks, tasks_per_chunk=tasks_per_chunk)
    if over not in get_args(Over):
        raise ValueError(f"An interval is over one of {get_args(Over)}, got {over!r}.")
    sampler, given = sampler_and_given(tasks, key, num_tasks)
    num_tasks = len(jax.tree.leaves(given)[0])
    held = None if over == "tasks" else _held(sampler, given, over, num_classes)
    per_task = _judge_all(learner, metric, tasks_per_chunk, sampler, mesh, theta, given)
    per_task = _Judgement(*(np.asarray(each)[:num_tasks] for each in per_task))
    if not per_task.well_formed.all():
        n = int(per_task.well_formed.argmin())
        task = nth(given, n) if sampler is None else sampler(nth(given, n))
        refuse(partial(_answer, learner, metric, theta), task, n)
    judged = per_task.rows > 0
    values = np.where(judged, per_task.value, np.nan)
    return Evaluation(
        mean=mean_of_known(values[judged]),
        ci95=interval95(values[judged]),
        per_task=values,
        density=float(per_task.density.mean()),
        nonzeros=float(per_task.nonzeros.mean()),
        num_bytes=float(per_task.num_bytes.mean()),
        left_out=int(per_task.left_out.sum()),
        unjudged=tuple(np.flatnonzero(~judged).tolist()),
        ci95_new=_over_new(over, values[judged], held, judged, num_classes),
        over=over,
        held=held,
    )


def _held(sampler: Sampler | None, keys: PyTree, over: Over, num_classes: int | None) -> np.ndarray:
    """What the tasks of these keys hold: classes `[T, m]`, or a group each `[T]`.

    What an interval cannot be told from is refused before the tasks are judged.
    """
    says = getattr(sampler, "classes" if over == "classes" else "group", None)
    if says is None:
        raise ValueError(
            f"An interval over {over} needs a sampler that says which it draws, as tasks.episodes "
            "of a fixed number of ways does; of a batch, give the values per_task to "
            f"interval_over_{over}."
        )
    held = np.asarray(jax.jit(jax.vmap(says))(keys))
    if over == "classes":
        check_classes(held, num_classes)
    return held


def _over_new(
    over: Over,
    values: np.ndarray,
    held: np.ndarray | None,
    judged: np.ndarray,
    num_classes: int | None,
) -> float:
    if held is None:
        return math.nan
    return interval_over(over, values, held[judged], num_classes)


def sampler_and_given(
    tasks: Task | Sampler, key: Array | None, num_tasks: int
) -> tuple[Sampler | None, PyTree]:
    """A sampler with the keys to draw its tasks from, or None with the tasks themselves."""
    if isinstance(tasks, Task) or not callable(tasks):
        check_batch(tasks)
        return None, tasks
    if key is None:
        raise ValueError(
            "evaluate draws tasks from a sampler with a key: pass key=jax.random.key(0)."
        )
    return tasks, jax.random.split(key, num_tasks)


class _Judgement(NamedTuple):
    """What is found out about a task."""

    value: Any
    rows: Any
    left_out: Any
    well_formed: Any
    density: Any
    nonzeros: Any
    num_bytes: Any


def _judge(learner: MetaLearner, metric: TaskLoss, theta: PyTree, task: Task) -> _Judgement:
    check_task(task)
    found, ways = with_classes_read(partial(_answer, learner, metric, theta), task)
    w, value, known = found
    rows = known.astype(bool).sum()
    return _Judgement(
        value=value,
        rows=rows,
        left_out=task.query.mask.astype(bool).sum() - rows,
        well_formed=well_formed(task, ways),
        density=sparsity.density(w),
        nonzeros=sparsity.nonzeros(w),
        num_bytes=sparsity.num_bytes(w),
    )


def answer(learner: MetaLearner, theta: PyTree, task: Task) -> tuple[PyTree, Array, Array]:
    """`w`, the predictions of the query rows, and the mask of those that can be judged."""
    w = learner.adapt(theta, task.support, description=task.description)
    z = learner.predict(theta, w, task.query.x)
    return w, z, losses.answerable(z, task.query.y, task.query.mask)


def _answer(
    learner: MetaLearner, metric: TaskLoss, theta: PyTree, task: Task
) -> tuple[PyTree, Array, Array]:
    """`w`, the metric of its predictions, and the mask of the rows that this is of."""
    w, z, known = answer(learner, theta, task)
    y, mask = task.query.y, task.query.mask
    if y.ndim == 2 and metric is losses.accuracy:
        raise ValueError(
            f"evaluate judges the accuracy of classes y [N], got targets {y.shape}: for regression "
            "pass metric=losses.mean_squared_error."
        )
    value = jnp.asarray(metric(z, y, known))
    if value.shape != ():
        raise ValueError(
            f"metric returned an array of shape {value.shape} for z {z.shape}, y {y.shape} and "
            f"mask {mask.shape}; it has to be one number, the mean over the rows of the mask."
        )
    return w, value, known


def well_formed(task: Task, ways: tuple[int | None, int | None]) -> Array:
    """Whether a task breaks no rule; in the program, where the values are known at last."""
    parts = zip((task.support, task.query), ways, strict=True)
    broken = [where for rows, limit in parts for where in violations(rows, limit).values()]
    return ~jnp.stack([where.any() for where in broken]).any()


def refuse(answer: Callable[[Task], Any], task: Task, n: int) -> None:
    """Raise ValueError with what is wrong with the n-th task."""
    check_numbered(task, n, *classes_read(answer, task))
    raise ValueError(f"Task {n} is not well-formed as the sampler draws it when compiled.")


def _filled_up(given: PyTree, num_devices: int) -> PyTree:
    """With copies of the last one, up to a number that the devices divide."""
    num_tasks = len(jax.tree.leaves(given)[0])
    places = np.minimum(np.arange(-(-num_tasks // num_devices) * num_devices), num_tasks - 1)
    return jax.tree.map(lambda leaf: leaf[places], given)


def _judge_all(
    learner: MetaLearner,
    metric: TaskLoss,
    chunk: int,
    sampler: Sampler | None,
    mesh: Mesh | None,
    theta: PyTree,
    given: PyTree,
) -> _Judgement:
    """What `_judge` says of every task; `given` are the tasks, or the keys to sample them from."""

    def judge(theta: PyTree, given: PyTree) -> _Judgement:
        def judge_one(one: Any) -> _Judgement:
            return _judge(learner, metric, theta, one if sampler is None else sampler(one))

        return jax.lax.map(judge_one, given, batch_size=chunk)

    functions = (learner.adapt, learner.predict, metric, *([] if sampler is None else [sampler]))
    if mesh is None:
        return call_compiled(lambda: judge, functions, chunk, theta, given)
    theta = parallel.replicate(theta, mesh)
    given = parallel.shard_tasks(_filled_up(given, mesh.size), mesh)
    return call_compiled(
        lambda: parallel.all_gather_map(judge, mesh),
        functions,
        (chunk, mesh),
        theta,
        given,
        place=lambda constants: parallel.replicate(constants, mesh),
    )
