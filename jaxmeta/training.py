"""The meta-optimisation phase: outer steps that move theta, as pure functions of a TrainState."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxmeta import faults, optimisers, sharing
from jaxmeta._batches import check_batch, classes_read
from jaxmeta._tree import merge, parameter_mask, split
from jaxmeta.types import Array, LossFn, MetaLearner, PyTree, Sampler, Task, TrainState
from jaxmeta.validation import check_task

Metrics = dict[str, Array]
Step = Callable[[TrainState, Task], tuple[TrainState, Metrics]]
Gradient = Callable[[PyTree, Task, Array, Array], tuple[PyTree, Metrics]]
"""`(theta, tasks, keys, step) -> (gradient, metrics)`, means over the tasks."""

_TOO_SMALL_TO_MATTER = 2**20
_CACHE_BYTES = 12 * 2**20
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

    Raises:
      ValueError: if the task is malformed.
    """
    check_task(task)
    init_key, root_key = jax.random.split(key)
    theta = learner.init(init_key, task)
    moving, _ = split(theta, parameter_mask(theta))
    return TrainState(theta, optimisers.init(tx, moving), root_key, jnp.zeros((), jnp.int32))


def step_keys(state: TrainState) -> StepKeys:
    """The keys of the step that `state` is about to take: a resumed run draws the same ones."""
    return StepKeys(*jax.random.split(jax.random.fold_in(state.key, state.step)))


def make_step(
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    *,
    tasks_per_chunk: int | None = None,
    on_bad_task: str | None = None,
) -> Step:
    """One outer step: the mean gradient over a batch of tasks, handed to an optax optimiser.

    Args:
      loss_fn: `(theta, task, key) -> (loss, metrics)` for one task, as `meta_objective` returns;
        if it has a parameter named `step` it is given the outer step.
      tx: the optimiser that `init` was given. One that asks for the loss (`value`, `grad`,
        `value_fn`) is given that of the whole batch.
      tasks_per_chunk: tasks whose gradient is computed at once; the batch is gone through in
        chunks, and the result is the same in less memory. By default `chunk_size` chooses.
      on_bad_task: what to do about a task whose loss or gradient is NaN or infinite, as it is
        where the support set holds NaN. `"mask"`: its weight is zero, the means are over the
        others, and the metrics count it as `bad_tasks`; where all are bad the gradient is NaN,
        which `optax.apply_if_finite` around `tx` skips. `"raise"`: an error (of jax, where the
        step is compiled). By default nobody looks; the other two take the gradients of the tasks
        one by one where there is a bad one.

    Returns:
      `(state, tasks) -> (state, metrics)`; `tasks` has a leading axis T, the metrics are means
      over it. Pure: wrap it in `jax.jit`, or `scan_steps`, or in a wrapper of `parallel`: where an
      axis named `sharing.TASK_AXIS` is mapped over, `tasks` are one device's share of the batch,
      and all devices take the one step of the whole batch.

    Raises:
      ValueError: for another `on_bad_task`; when the step is traced, if the chunks do not
        divide T, if the optimiser asks for more than there is, or for a list of tasks or a single
        one; when it is called and not traced, also for tasks that are not well-formed: labels that
        are no class, NaN, a mask of other numbers than 0 and 1.

    Examples:
      >>> step = jax.jit(make_step(meta_objective(learner, losses.cross_entropy), tx))
      >>> state, metrics = step(state, tasks)
    """
    faults.check_mode(on_bad_task)
    takes_step = "step" in inspect.signature(loss_fn).parameters

    def loss_at(theta: PyTree, task: Task, key: Array, step: Array) -> tuple[Array, Metrics]:
        return loss_fn(theta, task, key, **({"step": step} if takes_step else {}))

    def step(state: TrainState, tasks: Task) -> tuple[TrainState, Metrics]:
        # What to do about tasks that hold NaN is for `on_bad_task` to say, if it is given.
        loss_of = functools.partial(loss_at, state.theta, key=state.key, step=state.step)
        _check_tasks(tasks, loss_of, finite=on_bad_task is None)
        moving, fixed = split(state.theta, parameter_mask(state.theta))

        def loss_of_task(moving: PyTree, task: Task, key: Array, step: Array):
            return loss_at(merge(moving, fixed), task, key, step)

        reads = optimisers.reads(tx, state.opt_state, moving)
        gradient = _mean_gradient(loss_of_task, on_bad_task, reads.value or reads.value_fn)
        num_tasks = jax.tree.leaves(tasks)[0].shape[0] * sharing.num_shares()
        keys = sharing.split_for_share(step_keys(state).noise, num_tasks)
        size = tasks_per_chunk
        if size is None:
            size = chunk_size(gradient, moving, tasks, keys, state.step)

        def means_at(moving: PyTree) -> tuple[PyTree, Metrics]:
            means = _in_chunks(gradient, size, moving, tasks, keys, state.step)
            grads, metrics, *share = sharing.mean_over_shares(means)
            if not share:
                return grads, metrics
            stop = on_bad_task == "raise"
            return faults.over_good(
                grads, metrics, *share, num_tasks=num_tasks, step=state.step, stop=stop
            )

        grads, metrics = means_at(moving)
        value = metrics.pop(_MEAN_LOSS, jnp.zeros(()))
        value_fn = optimisers.with_gradient(
            lambda moving: means_at(moving)[1][_MEAN_LOSS], means_at
        )
        updates, opt_state = optimisers.update(
            tx, grads, state.opt_state, moving, grad=grads, value=value, value_fn=value_fn
        )
        theta = merge(optimisers.apply_updates(moving, updates), fixed)
        return TrainState(theta, opt_state, state.key, state.step + 1), metrics

    return step


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

    if on_bad_task is None:
        return jax.grad(mean_loss, has_aux=True)
    return faults.masked_gradient(mean_loss, reporting)


def _in_chunks(gradient: Gradient, size: int, theta: PyTree, tasks: Task, keys: Array, step: Array):
    """The mean of `gradient` over chunks of `size` tasks."""
    num_tasks = len(keys)
    if size == num_tasks:
        return gradient(theta, tasks, keys, step)
    if size < 1 or num_tasks % size:
        raise ValueError(f"Chunks of tasks_per_chunk={size} do not divide {num_tasks} tasks.")
    num_chunks = num_tasks // size
    chunks = jax.tree.map(
        lambda leaf: leaf.reshape(num_chunks, size, *leaf.shape[1:]), (tasks, keys)
    )
    first = jax.tree.map(lambda leaf: leaf[0], chunks)
    total = jax.tree.map(_zeros, jax.eval_shape(gradient, theta, *first, step))

    def add(total: PyTree, chunk: tuple[Task, Array]) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, gradient(theta, *chunk, step)), None

    total, _ = jax.lax.scan(add, total, chunks)
    return jax.tree.map(lambda leaf: leaf / num_chunks, total)


def _zeros(like: jax.ShapeDtypeStruct) -> Array:
    """Under `shard_map` they differ over the same mesh axes as what will be added to them."""
    axes = tuple(getattr(like.manual_axis_type, "varying", ()))
    zeros = jnp.zeros(like.shape, like.dtype)
    return jax.lax.pcast(zeros, axes, to="varying") if axes else zeros


def chunk_size(gradient: Gradient, theta: PyTree, tasks: Task, keys: Array, step: Array) -> int:
    """Tasks whose gradient fits the memory that is fast to reach: a divisor of T.

    Compiles the gradient and reads what the program would allocate, unless all is small, or
    `shard_map` has typed it for a mesh, outside of which it is no program. On CPU the bound is a
    cache's size: beyond it many tasks at once cost more time, not less. On an accelerator it is a
    quarter of its memory.
    """
    num_tasks = len(keys)
    on_mesh = any(jax.typeof(leaf).manual_axis_type.varying for leaf in jax.tree.leaves(tasks))
    if on_mesh or num_tasks * _num_bytes(theta) + _num_bytes(tasks) < _TOO_SMALL_TO_MATTER:
        return num_tasks
    limits = jax.local_devices()[0].memory_stats() or {}
    budget = limits["bytes_limit"] // 4 if "bytes_limit" in limits else _CACHE_BYTES
    most = num_tasks
    # One task is soon compiled and may be enough to know; of several, part of the memory is shared.
    for count in (1, num_tasks):
        some = jax.tree.map(lambda leaf, count=count: leaf[:count], (tasks, keys))
        most = budget * count // max(1, _num_temporary_bytes(gradient, theta, *some, step))
        if most <= 1:
            return 1
    return max(size for size in range(1, num_tasks + 1) if num_tasks % size == 0 and size <= most)


def _num_temporary_bytes(function: Callable[..., PyTree], *args: PyTree) -> int:
    """What `function`, compiled by itself, allocates beside arguments and results."""
    program = jax.make_jaxpr(function)(*args)
    given = jax.tree.map(_shape_of, (program.consts, jax.tree.leaves(args)))
    run = jax.jit(lambda consts, args: jax.core.eval_jaxpr(program.jaxpr, consts, *args))
    # Machine code of less quality takes half the time to make and the same memory to run.
    usage = run.lower(*given).compile({"xla_backend_optimization_level": "0"}).memory_analysis()
    return usage.temp_size_in_bytes if usage else 0


def _shape_of(leaf: Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(jnp.shape(leaf), jax.typeof(leaf).dtype)


def _num_bytes(tree: PyTree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in map(_shape_of, jax.tree.leaves(tree)))


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
        keys = sharing.split_for_share(step_keys(state).sample, tasks_per_step)
        return step(state, jax.vmap(sampler)(keys))

    def run(state: TrainState) -> tuple[TrainState, Metrics]:
        return jax.lax.scan(body, state, length=num_steps)

    return run
