"""How many tasks of a batch have their gradient computed at once, and the mean over such chunks.

On CPU more tasks at once than fit the cache cost more time, not less, and on an accelerator they
may not fit the memory. By default a rule decides from shapes alone, which takes one trace of the
gradient that the step needs anyway; "auto" compiles the gradient and measures.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxmeta._jax_compat import Jaxpr, eval_jaxpr, inner_jaxprs, varying_axes
from jaxmeta.types import Array, PyTree, Task

Gradient = Callable[[PyTree, Task, Array, Array], PyTree]
"""`(theta, tasks, keys, step) -> means over the tasks`."""

_TOO_SMALL_TO_MATTER = 2**20
_CACHE_BYTES = 12 * 2**20
# XLA fuses most operations with their neighbours and frees what nobody reads any more. Measured on
# the workloads of the throughput kit, between a fifth and an eighteenth of all results are held at
# once; with a tenth the rule gives the sizes that measuring gives, on all of them.
_ONE_RESULT_IS_HELD_IN = 10


def chooser(tasks_per_chunk: int | str | None) -> Callable[..., int]:
    """The function `(gradient, theta, tasks, keys, step) -> size` that an option stands for.

    Raises:
      ValueError: for a word other than "auto".
    """
    if tasks_per_chunk is None:
        return chunk_size
    if isinstance(tasks_per_chunk, str):
        if tasks_per_chunk != "auto":
            raise ValueError(
                f"tasks_per_chunk={tasks_per_chunk!r} is neither a number of tasks nor 'auto', "
                "which measures; None leaves it to a rule."
            )
        return _measuring_once()
    return lambda *_: tasks_per_chunk


def chunk_size(gradient: Gradient, theta: PyTree, tasks: Task, keys: Array, step: Array) -> int:
    """Tasks whose gradient fits the memory that is fast to reach, from shapes alone.

    Args:
      gradient: `(theta, tasks, keys, step) -> means over the tasks`.
      theta: what it is the gradient in.
      tasks: the batch, leading axis T.
      keys: one key a task, `[T]`.
      step: the outer step, `[]`.

    Returns:
      A divisor of T. It is T where all is small, and under a `shard_map` that types its arrays.
    """
    if _is_small(theta, tasks):
        return len(keys)
    program = jax.make_jaxpr(gradient)(theta, *_first(1, tasks, keys), step).jaxpr
    return _divisor(len(keys), _budget() * _ONE_RESULT_IS_HELD_IN // max(1, _result_bytes(program)))


def measured_chunk_size(
    gradient: Gradient, theta: PyTree, tasks: Task, keys: Array, step: Array
) -> int:
    """As `chunk_size`, by what the compiled gradient would allocate: seconds of compilation."""
    num_tasks = len(keys)
    if _is_small(theta, tasks):
        return num_tasks
    most = num_tasks
    # One task is soon compiled and may be enough to know; of several, part of the memory is shared.
    for count in (1, num_tasks):
        some = _first(count, tasks, keys)
        most = _budget() * count // max(1, _temporary_bytes(gradient, theta, *some, step))
        if most <= 1:
            return 1
    return _divisor(num_tasks, most)


def in_chunks(
    gradient: Gradient,
    choose: Callable[..., int],
    theta: PyTree,
    tasks: Task,
    keys: Array,
    step: Array,
) -> Callable[[PyTree], PyTree]:
    """The function of theta that gives the mean of `gradient` over chunks of the tasks.

    Raises:
      ValueError: if the size that `choose` gives does not divide the number of tasks.
    """
    num_tasks = len(keys)
    traced_once = jax.jit(gradient)  # by whoever chooses, and by the loop
    size = choose(traced_once, theta, tasks, keys, step)
    if size == num_tasks:
        return lambda theta: gradient(theta, tasks, keys, step)
    if size < 1 or num_tasks % size:
        raise ValueError(f"Chunks of tasks_per_chunk={size} do not divide {num_tasks} tasks.")
    num_chunks = num_tasks // size
    chunks = jax.tree.map(
        lambda leaf: leaf.reshape(num_chunks, size, *leaf.shape[1:]), (tasks, keys)
    )
    first = jax.tree.map(lambda leaf: leaf[0], chunks)

    def mean(theta: PyTree) -> PyTree:
        def add(total: PyTree, chunk: tuple[Task, Array]) -> tuple[PyTree, None]:
            return jax.tree.map(jnp.add, total, traced_once(theta, *chunk, step)), None

        total = jax.tree.map(_zeros, jax.eval_shape(traced_once, theta, *first, step))
        total, _ = jax.lax.scan(add, total, chunks)
        return jax.tree.map(lambda leaf: leaf / num_chunks, total)

    return mean


def _measuring_once() -> Callable[..., int]:
    """`measured_chunk_size`, once for the shapes that a step is given."""
    known = {}

    def choose(gradient: Gradient, *args: PyTree) -> int:
        leaves, structure = jax.tree.flatten(args)
        shapes = (structure, *((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves))
        if shapes not in known:
            known[shapes] = measured_chunk_size(gradient, *args)
        return known[shapes]

    return choose


def _is_small(theta: PyTree, tasks: Task) -> bool:
    """Whether all tasks go at once without a look, as they do on a typed mesh."""
    leaves = jax.tree.leaves(tasks)
    if any(varying_axes(leaf) for leaf in leaves):
        return True
    return leaves[0].shape[0] * _num_bytes(theta) + _num_bytes(tasks) < _TOO_SMALL_TO_MATTER


def _budget() -> int:
    """Bytes: a cache's on CPU, a quarter of the memory on an accelerator."""
    limits = jax.local_devices()[0].memory_stats() or {}
    return limits["bytes_limit"] // 4 if "bytes_limit" in limits else _CACHE_BYTES


def _divisor(number: int, most: int) -> int:
    """The greatest divisor of `number` that is `most` at the most, or one."""
    return max(n for n in range(1, number + 1) if number % n == 0 and n <= max(1, most))


def _first(count: int, tasks: Task, keys: Array) -> tuple[Task, Array]:
    return jax.tree.map(lambda leaf: leaf[:count], (tasks, keys))


def _result_bytes(program: Jaxpr) -> int:
    """Bytes of all results in a program; of a loop, those of one pass."""
    return sum(
        max(
            sum(map(_var_bytes, equation.outvars)),
            max(map(_result_bytes, inner_jaxprs(equation)), default=0),
        )
        for equation in program.eqns
    )


def _temporary_bytes(function: Callable[..., PyTree], *args: PyTree) -> int:
    """What `function`, compiled by itself, allocates beside arguments and results."""
    program = jax.make_jaxpr(function)(*args)
    given = jax.tree.map(_shape_of, (program.consts, jax.tree.leaves(args)))
    run = jax.jit(lambda consts, args: eval_jaxpr(program.jaxpr, consts, *args))
    # Machine code of less quality takes half the time to make and the same memory to run.
    usage = run.lower(*given).compile({"xla_backend_optimization_level": "0"}).memory_analysis()
    return usage.temp_size_in_bytes if usage else 0


def _zeros(like: jax.ShapeDtypeStruct) -> Array:
    """Under `shard_map` they differ over the same mesh axes as what will be added to them."""
    axes = tuple(varying_axes(like))
    zeros = jnp.zeros(like.shape, like.dtype)
    return jax.lax.pcast(zeros, axes, to="varying") if axes else zeros


def _shape_of(leaf: Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(jnp.shape(leaf), jax.typeof(leaf).dtype)


def _num_bytes(tree: PyTree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in map(_shape_of, jax.tree.leaves(tree)))


def _var_bytes(var) -> int:
    shape, dtype = getattr(var.aval, "shape", ()), getattr(var.aval, "dtype", None)
    return 0 if dtype is None else jax.ShapeDtypeStruct(shape, dtype).size * dtype.itemsize
