"""The meta-optimisation phase: outer steps that move theta, as pure functions of a TrainState."""

import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxmeta.types import Array, LossFn, MetaLearner, Sampler, Task, TrainState
from jaxmeta.validation import check_task

Metrics = dict[str, Array]
Step = Callable[[TrainState, Task], tuple[TrainState, Metrics]]


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

    Raises:
      ValueError: if the task is malformed.
    """
    check_task(task)
    init_key, root_key = jax.random.split(key)
    theta = learner.init(init_key, task)
    return TrainState(theta, tx.init(theta), root_key, jnp.zeros((), jnp.int32))


def step_keys(state: TrainState) -> StepKeys:
    """The keys of the step that `state` is about to take: a resumed run draws the same ones."""
    return StepKeys(*jax.random.split(jax.random.fold_in(state.key, state.step)))


def make_step(loss_fn: LossFn, tx: optax.GradientTransformation) -> Step:
    """One outer step: the mean gradient over a batch of tasks, handed to an optax optimiser.

    Args:
      loss_fn: `(theta, task, key) -> (loss, metrics)` for one task, as `meta_objective` returns;
        if it has a parameter named `step` it is given the outer step.
      tx: the optimiser that `init` was given.

    Returns:
      `(state, tasks) -> (state, metrics)`; `tasks` has a leading axis T, the metrics are means
      over it. Pure: wrap it in `jax.jit`, or `scan_steps`.

    Examples:
      >>> step = jax.jit(make_step(meta_objective(learner, losses.cross_entropy), tx))
      >>> state, metrics = step(state, tasks)
    """
    takes_step = "step" in inspect.signature(loss_fn).parameters

    def mean_loss(theta, tasks: Task, keys: Array, step: Array) -> tuple[Array, Metrics]:
        extra = {"step": step} if takes_step else {}
        per_task = jax.vmap(lambda task, key: loss_fn(theta, task, key, **extra))(tasks, keys)
        loss, metrics = jax.tree.map(lambda values: values.mean(axis=0), per_task)
        return loss, metrics

    def step(state: TrainState, tasks: Task) -> tuple[TrainState, Metrics]:
        num_tasks = jax.tree.leaves(tasks)[0].shape[0]
        keys = jax.random.split(step_keys(state).noise, num_tasks)
        grads, metrics = jax.grad(mean_loss, has_aux=True)(state.theta, tasks, keys, state.step)
        updates, opt_state = tx.update(grads, state.opt_state, state.theta)
        theta = optax.apply_updates(state.theta, updates)
        return TrainState(theta, opt_state, state.key, state.step + 1), metrics

    return step


def sample_tasks(sampler: Sampler, key: Array, num_tasks: int) -> Task:
    """A batch of `num_tasks` independent tasks, leading axis T."""
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
        return step(state, sample_tasks(sampler, step_keys(state).sample, tasks_per_step))

    def run(state: TrainState) -> tuple[TrainState, Metrics]:
        if num_steps == 1:
            # One step needs no loop, inside which XLA:CPU runs convolutions' gradients slowly.
            state, metrics = body(state, None)
            return state, jax.tree.map(lambda value: value[None], metrics)
        return jax.lax.scan(body, state, length=num_steps)

    return run
