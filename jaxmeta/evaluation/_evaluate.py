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
from jaxmeta._batches import nth, with_classes_read
from jaxmeta._programs import call_compiled
from jaxmeta._validation import check_positive, check_task
from jaxmeta.evaluation._intervals import (
    Evaluation,
    Over,
    interval95,
    interval_over,
    mean_of_known,
)
from jaxmeta.evaluation._over_classes import check_classes, check_groups
from jaxmeta.evaluation._predictions import (
    Predictions,
    answer,
    drawing,
    refuse,
    sampler_and_given,
    well_formed,
)
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
    keep_predictions: bool = False,
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
      keep_predictions: whether to return what was predicted as well, for calibration.

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
    draw = drawing(sampler, over)
    if over != "tasks":
        _check_held(sampler, given, over, num_classes)

    def judge_one(theta: PyTree, one: PyTree) -> _Judgement:
        task, held = draw(one)
        return _judge(learner, metric, theta, task, keep_predictions)._replace(held=held)

    functions = (learner.adapt, learner.predict, metric, *([] if sampler is None else [sampler]))
    settings = (tasks_per_chunk, mesh, keep_predictions, over)
    per_task = _judge_all(judge_one, functions, settings, theta, given)
    per_task = jax.tree.map(lambda leaf: np.asarray(leaf)[:num_tasks], per_task)
    if not per_task.well_formed.all():
        n = int(per_task.well_formed.argmin())
        task = nth(given, n) if sampler is None else sampler(nth(given, n))
        refuse(partial(_answer, learner, metric, theta), task, n)
    return _evaluation(per_task, over, num_classes)


def _check_held(sampler: Any, keys: Array, over: Over, num_classes: int | None) -> None:
    """Raise ValueError, before the tasks are judged, if they hold too few classes or groups."""
    says = sampler.classes if over == "classes" else sampler.group
    held = np.asarray(call_compiled(lambda: jax.vmap(says), (sampler,), over, keys))
    if over == "classes":
        check_classes(held, num_classes)
    else:
        check_groups(held)


def _evaluation(per_task: "_Judgement", over: Over, num_classes: int | None) -> Evaluation:
    held = per_task.held
    judged = per_task.rows > 0
    values = np.where(judged, per_task.value, np.nan)
    new = (
        math.nan if held is None else interval_over(over, values[judged], held[judged], num_classes)
    )
    return Evaluation(
        mean=mean_of_known(values[judged]),
        ci95=interval95(values[judged]),
        per_task=values,
        density=float(per_task.density.mean()),
        nonzeros=float(per_task.nonzeros.mean()),
        num_bytes=float(per_task.num_bytes.mean()),
        left_out=int(per_task.left_out.sum()),
        unjudged=tuple(np.flatnonzero(~judged).tolist()),
        ci95_new=new,
        over=over,
        held=held,
        predictions=per_task.predictions,
    )


class _Judgement(NamedTuple):
    """What is found out about a task."""

    value: Any
    rows: Any
    left_out: Any
    well_formed: Any
    density: Any
    nonzeros: Any
    num_bytes: Any
    predictions: Any
    held: Any


def _judge(
    learner: MetaLearner, metric: TaskLoss, theta: PyTree, task: Task, keep: bool
) -> _Judgement:
    check_task(task)
    found, ways = with_classes_read(partial(_answer, learner, metric, theta), task)
    w, z, value, known = found
    rows = known.astype(bool).sum()
    return _Judgement(
        value=value,
        rows=rows,
        left_out=task.query.mask.astype(bool).sum() - rows,
        well_formed=well_formed(task, ways),
        density=sparsity.density(w),
        nonzeros=sparsity.nonzeros(w),
        num_bytes=sparsity.num_bytes(w),
        predictions=Predictions(z, task.query.y, known.astype(bool)) if keep else None,
        held=None,
    )


def _answer(
    learner: MetaLearner, metric: TaskLoss, theta: PyTree, task: Task
) -> tuple[PyTree, Array, Array, Array]:
    """`w`, its predictions, their metric, and the mask of the rows that this is of."""
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
    return w, z, value, known


def _filled_up(given: PyTree, num_devices: int) -> PyTree:
    """With copies of the last one, up to a number that the devices divide."""
    num_tasks = len(jax.tree.leaves(given)[0])
    places = np.minimum(np.arange(-(-num_tasks // num_devices) * num_devices), num_tasks - 1)
    return jax.tree.map(lambda leaf: leaf[places], given)


def _judge_all(
    judge_one: Callable[[PyTree, Task], _Judgement],
    functions: tuple[Callable[..., Any], ...],
    settings: tuple[int, Mesh | None, bool, Over],
    theta: PyTree,
    given: PyTree,
) -> _Judgement:
    """What `judge_one` says of every task; `given` are the tasks, or the keys to sample them from.

    `functions` and `settings` are what it is made of (`call_compiled`).
    """
    chunk, mesh, *_ = settings

    def judge(theta: PyTree, given: PyTree) -> _Judgement:
        return jax.lax.map(partial(judge_one, theta), given, batch_size=chunk)

    if mesh is None:
        return call_compiled(lambda: judge, functions, settings, theta, given)
    theta = parallel.replicate(theta, mesh)
    given = parallel.shard_tasks(_filled_up(given, mesh.size), mesh)
    return call_compiled(
        lambda: parallel.all_gather_map(judge, mesh),
        functions,
        settings,
        theta,
        given,
        place=lambda constants: parallel.replicate(constants, mesh),
    )
