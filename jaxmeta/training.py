"""The meta-optimisation phase: outer steps that move theta, as pure functions of a TrainState."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxmeta import _collectives, _nonfinite, _optax
from jaxmeta._batches import check_batch, classes_read
from jaxmeta._chunking import chooser, chunk_size, in_chunks
from jaxmeta._tree import merge, parameter_mask, split
from jaxmeta._validation import check_task
from jaxmeta.types import Array, LossFn, MetaLearner, PyTree, Sampler, Task, TrainState

__all__ = [
    "StepKeys",
    "chunk_size",
    "init",
    "make_step",
    "sample_tasks",
    "scan_steps",
    "step_keys",
]

Metrics = dict[str, Array]
Step = Callable[[TrainState, Task], tuple[TrainState, Metrics]]
Gradient = Callable[[PyTree, Task, Array, Array], tuple[PyTree, Metrics, Array]]
"""`(theta, tasks, keys, step) -> (gradient, metrics, share)`: means over the tasks, in which bad
ones count as zeros, and the share of the good ones."""

_MEAN_LOSS = "the mean loss, for the optimiser"


class StepKeys(NamedTuple):
    """The keys of one outer step, named for what they are spent on."""

    sample: Array
    noise: Array


def init(
    learner: MetaLearner, tx: optax.GradientTransformation, key: Array, task: Task
) -> TrainState:
    """The state before the first outer step.

    Args:
      learner: the meta-learner to train.
      tx: the outer optimiser.
      key: a typed key (`jax.random.key`); theta is drawn from it, and it is kept as the root key
        from which the keys of every step follow.
      task: one task (no leading axis), for its shapes.

    Returns:
      theta, the optimiser's state, the root key and step 0.

    Raises:
      ValueError: if the task is malformed.
    """
    check_task(task)
    init_key, root_key = jax.random.split(key)
    theta = learner.init(init_key, task)
    moving, _ = split(theta, parameter_mask(theta))
    return TrainState(theta, _optax.init(tx, moving), root_key, jnp.zeros((), jnp.int32))


def step_keys(state: TrainState) -> StepKeys:
    """The keys of the step that `state` is about to take: a resumed run draws the same ones."""
    return StepKeys(*jax.random.split(jax.random.fold_in(state.key, state.step)))


def make_step(
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    *,
    tasks_per_chunk: int | str | None = None,
    on_bad_task: str | None = None,
) -> Step:
    """One outer step: the mean gradient over a batch of tasks, handed to an optax optimiser.

    Args:
      loss_fn: `(theta, task, key) -> (loss, metrics)` for one task, as `meta_objective` returns;
        if it has a parameter named `step` it is given the outer step.
      tx: the optimiser that `init` was given. One that asks for the loss (`value`, `grad`,
        `value_fn`) is given that of the whole batch.
      tasks_per_chunk: tasks whose gradient is computed at once; the batch is gone through in
        chunks, and the result is the same in less memory. By default `chunk_size` chooses from
        the shapes; "auto" measures, once for each shape, which takes seconds of compilation.
      on_bad_task: what to do about a task whose loss or gradient is NaN or infinite, as it is
        where the support set holds NaN. `"skip"`: its weight is zero, the means are over the
        others, and the metrics count it as `bad_tasks`; where all are bad the gradient is NaN,
        which `optax.apply_if_finite` around `tx` skips. `"raise"`: an error (of jax, where the
        step is compiled). By default nobody looks; the other two take the gradients of the tasks
        one by one where there is a bad one.

    Returns:
      `(state, tasks) -> (state, metrics)`; `tasks` has a leading axis T, the metrics are means
      over it. Pure: wrap it in `jax.jit`, or `scan_steps`, or in a wrapper of `parallel`: where an
      axis named `parallel.TASK_AXIS` is mapped over, `tasks` are one device's share of the batch,
      and all devices take the one step of the whole batch.

    Raises:
      ValueError: for another `on_bad_task` or word for `tasks_per_chunk`; when the step is
        traced, if the chunks do not divide T, if the optimiser asks for more than there is, or for
        a list of tasks or a single one; when it is called and not traced, also for tasks that are
        not well-formed: labels that are no class, NaN, a mask of other numbers than 0 and 1.

    Example:
      >>> import jax, optax
      >>> import jaxmeta as jm
      >>> learner, tx = jm.learners.prototypes(jm.networks.mlp([8]), ways=2), optax.adam(1e-3)
      >>> sampler = jm.tasks.two_tasks(shots=10)
      >>> batch = jm.training.sample_tasks(sampler, jax.random.key(0), 4)
      >>> first = jax.tree.map(lambda leaf: leaf[0], batch)
      >>> state = jm.training.init(learner, tx, jax.random.key(1), first)
      >>> step = jax.jit(jm.make_step(jm.meta_objective(learner, jm.losses.cross_entropy), tx))
      >>> state, metrics = step(state, batch)
    """
    on_bad_task = _nonfinite.check_mode(on_bad_task)
    loss_at = _given_step(loss_fn)
    choose_size = chooser(tasks_per_chunk)

    def step(state: TrainState, tasks: Task) -> tuple[TrainState, Metrics]:
        def loss_of(task: Task):
            return loss_at(state.theta, task, state.key, state.step)

        # What to do about tasks that hold NaN is for `on_bad_task` to say, if it is given.
        _check_tasks(tasks, loss_of, finite=on_bad_task is None)
        moving, fixed = split(state.theta, parameter_mask(state.theta))

        def loss_of_task(moving: PyTree, task: Task, key: Array, step: Array):
            return loss_at(merge(moving, fixed), task, key, step)

        reads = _optax.reads(tx, state.opt_state, moving)
        gradient = _mean_gradient(loss_of_task, on_bad_task, reads.value or reads.value_fn)
        num_tasks = jax.tree.leaves(tasks)[0].shape[0] * _collectives.num_devices()
        keys = _collectives.split_key_for_device(step_keys(state).noise, num_tasks)
        mean_gradient = in_chunks(gradient, choose_size, moving, tasks, keys, state.step)

        def means_at(moving: PyTree) -> tuple[PyTree, Metrics]:
            grads, metrics, share = _collectives.pmean_over_tasks(mean_gradient(moving))
            if on_bad_task is None:
                return grads, metrics
            stop = on_bad_task == "raise"
            return _nonfinite.mean_over_finite(
                grads, metrics, share, num_tasks=num_tasks, step=state.step, stop=stop
            )

        grads, metrics = means_at(moving)
        value = metrics.pop(_MEAN_LOSS, jnp.zeros(()))
        value_fn = _optax.with_gradient(lambda moving: means_at(moving)[1][_MEAN_LOSS], means_at)
        updates, opt_state = _optax.update(
            tx, grads, state.opt_state, moving, grad=grads, value=value, value_fn=value_fn
        )
        theta = merge(_optax.apply_updates(moving, updates), fixed)
        return TrainState(theta, opt_state, state.key, state.step + 1), metrics

    return step


def _given_step(loss_fn: LossFn) -> Callable[[PyTree, Task, Array, Array], tuple[Array, Metrics]]:
    """The loss as a function of the outer step too, which a loss without `step` does not see."""
    if "step" in inspect.signature(loss_fn).parameters:
        return lambda theta, task, key, step: loss_fn(theta, task, key, step=step)
    return lambda theta, task, key, step: loss_fn(theta, task, key)


def _check_tasks(tasks: Any, loss_of: Callable[[Task], Any], *, finite: bool) -> None:
    """Raise ValueError unless the tasks are a batch; tasks of a type of one's own are let be."""
    if isinstance(tasks, Task | list | tuple | Iterator):
        check_batch(tasks, lambda one: classes_read(loss_of, one), finite=finite)


def _mean_gradient(loss_of_task, on_bad_task: str | None, with_loss: bool) -> Gradient:
    """Of a batch, with metrics; the loss is one of them if the optimiser asks for it."""

    def mean_loss(theta, tasks: Task, keys: Array, step: Array) -> tuple[Array, Metrics]:
        per_task = jax.vmap(reporting, in_axes=(None, 0, 0, None))(theta, tasks, keys, step)
        loss, metrics = jax.tree.map(lambda values: values.mean(axis=0), per_task)
        return loss, metrics

    def reporting(theta, task: Task, key: Array, step: Array) -> tuple[Array, Metrics]:
        loss, metrics = loss_of_task(theta, task, key, step)
        return loss, metrics | ({_MEAN_LOSS: loss} if with_loss else {})

    def usual(theta, tasks: Task, keys: Array, step: Array):
        return *jax.grad(mean_loss, has_aux=True)(theta, tasks, keys, step), jnp.ones(())

    if on_bad_task is None:
        return usual
    return _nonfinite.grad_skipping_nonfinite(mean_loss, reporting)


def sample_tasks(sampler: Sampler, key: Array, num_tasks: int) -> Task:
    """Draw a batch of independent tasks.

    Args:
      sampler: `key -> Task`.
      key: a typed key (`jax.random.key`), split into one for each task.
      num_tasks: how many tasks T.

    Returns:
      One Task with a leading axis T on every leaf.
    """
    return jax.vmap(sampler)(jax.random.split(key, num_tasks))


def scan_steps(
    step: Step, sampler: Sampler, *, num_steps: int, tasks_per_step: int
) -> Callable[[TrainState], tuple[TrainState, Metrics]]:
    """Many outer steps, sampling included, as one function with no Python in its loop.

    Args:
      step: `(state, tasks) -> (state, metrics)`, as `make_step` returns.
      sampler: `key -> Task`.
      num_steps: outer steps in one call.
      tasks_per_step: tasks T of one outer step.

    Returns:
      `state -> (state, metrics)`, each metric stacked to `[num_steps]`. Calls of any lengths one
      after the other draw the same tasks as one long call: the keys follow from `state.step`.

    Raises:
      ValueError: if a count is less than 1.
    """
    for name, count in (("num_steps", num_steps), ("tasks_per_step", tasks_per_step)):
        if count < 1:
            raise ValueError(f"scan_steps needs {name} of 1 or more, got {count}.")

    def body(state: TrainState, _) -> tuple[TrainState, Metrics]:
        keys = _collectives.split_key_for_device(step_keys(state).sample, tasks_per_step)
        return step(state, jax.vmap(sampler)(keys))

    def run(state: TrainState) -> tuple[TrainState, Metrics]:
        return jax.lax.scan(body, state, length=num_steps)

    return run
