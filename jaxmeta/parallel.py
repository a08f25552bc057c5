"""The outer step on every device: wrappers around the one step that `make_step` returns.

Each device holds the whole state and a part of the batch of tasks; the gradient and the metrics
are averaged over the devices by one all-reduce in each step. Noise and sampled tasks follow from
the keys of the whole batch, so the result does not depend on the number of devices.

    state = parallel.replicate(state)
    step = parallel.pmap_step(make_step(loss_fn, tx))           # all devices of this process

    mesh = parallel.task_mesh()                                 # all devices of all processes
    state = parallel.replicate(state, mesh)
    step = parallel.shard_step(make_step(loss_fn, tx), mesh)

    state, metrics = step(state, tasks)

Both wrap a run of `scan_steps`, `state -> (state, metrics)`, in the same way. On several processes
each runs the same program, which begins with

    jax.distributed.initialize("HOST:PORT", num_processes, process_id)
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxmeta._collectives import TASK_AXIS, check_divides
from jaxmeta._deprecations import renamed
from jaxmeta.types import PyTree

__all__ = [
    "TASK_AXIS",
    "all_gather_map",
    "pmap_step",
    "replicate",
    "shard_step",
    "shard_tasks",
    "task_mesh",
    "unreplicate",
]

if not TYPE_CHECKING:  # a checker knows the names of today alone
    __getattr__ = renamed(
        __name__,
        {
            "gathered": "jaxmeta.parallel.all_gather_map",
        },
    )


def task_mesh(num_devices: int | None = None) -> Mesh:
    """A mesh over which the tasks of a batch are shared.

    Args:
      num_devices: how many devices, the first ones; by default all, of all processes.

    Returns:
      A mesh of one axis, named `TASK_AXIS`.

    Raises:
      ValueError: if there are not so many.
    """
    devices = jax.devices()
    if num_devices is not None and not 1 <= num_devices <= len(devices):
        raise ValueError(
            f"A mesh of {num_devices} devices was asked for, and there are {len(devices)} "
            f"({devices[0].platform}). On CPU, jax.config.update('jax_num_cpu_devices', N) before "
            "the first computation makes N virtual ones."
        )
    return _mesh(devices[:num_devices])


def pmap_step(step: Callable[..., Any], devices: Sequence[jax.Device] | None = None):
    """One outer step on all devices of this process, by `jax.pmap`.

    Args:
      step: `(state, tasks) -> (state, metrics)` as `make_step` returns, or `state -> (state,
        metrics)` as `scan_steps` does. A step of your own has to average over the axis
        `TASK_AXIS` by itself.
      devices: which devices; by default all of this process.

    Returns:
      The same function: `tasks` has its leading axis T, the metrics are those of all T. Compiled,
      so not to be jitted again. The state comes from `replicate`, and its memory is given to the
      new state (donated): it cannot be used again.

    Raises:
      ValueError: for several processes; when called, if the devices do not divide T.
    """
    if jax.process_count() > 1:
        raise ValueError(
            f"pmap_step runs on the devices of one process, and there are {jax.process_count()} "
            "processes: use shard_step(step, task_mesh())."
        )
    devices = list(devices or jax.local_devices())
    # pmap wants something that is mapped, and a run of scan_steps takes the state alone.
    places = _place(np.arange(len(devices)), NamedSharding(_mesh(devices), P(TASK_AXIS)))
    program = jax.pmap(
        lambda state, place, tasks: step(state, *tasks),
        TASK_AXIS,
        in_axes=(None, 0, 0),
        out_axes=None,
        donate_argnums=0,
        devices=devices,
    )

    def parallel_step(state, *tasks):
        _check_shared(tasks, len(devices))
        shares = jax.tree.map(lambda leaf: leaf.reshape(len(devices), -1, *leaf.shape[1:]), tasks)
        return program(state, places, shares)

    return parallel_step


def shard_step(step: Callable[..., Any], mesh: Mesh):
    """One outer step on the devices of a mesh, in one process or many, by `jax.jit`.

    The state is replicated over the mesh and the tasks are sharded over it (`NamedSharding`).
    Every device runs the step on its part (`jax.shard_map`), so what the compiler makes of it has
    one all-reduce and nothing is gathered, whatever the learner does.

    Args:
      step: as for `pmap_step`.
      mesh: devices along one axis, as `task_mesh` returns.

    Returns:
      The same function, compiled, its state donated, as with `pmap_step`. With several processes
      the tasks come from `shard_tasks`.

    Raises:
      ValueError: for a mesh of several axes; when called, if the devices do not divide T.
    """
    mesh = _one_axis(mesh)
    # That what comes out is the same on all devices, because the step averages, is not inferred.
    mapped = jax.shard_map(
        lambda state, tasks: step(state, *tasks),
        mesh=mesh,
        in_specs=(P(), P(TASK_AXIS)),
        out_specs=P(),
        check_vma=False,
    )

    def parallel_step(state, *tasks):
        _check_shared(tasks, mesh.size)
        return mapped(state, tasks)

    return jax.jit(parallel_step, donate_argnums=0)


def all_gather_map(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """A function of every task, on the devices of a mesh, its results gathered on each of them.

    Args:
      function: `(theta, tasks) -> results`, with the leading axis T of the tasks.
      mesh: as for `shard_step`, and theta and tasks are placed on it as there.

    Returns:
      The same function; every device holds the results of all T tasks.

    Raises:
      ValueError: for a mesh of several axes.
    """

    def share(theta: PyTree, tasks: PyTree) -> PyTree:
        return jax.lax.all_gather(function(theta, tasks), TASK_AXIS, tiled=True)

    specs = (P(), P(TASK_AXIS))
    return jax.shard_map(
        share, mesh=_one_axis(mesh), in_specs=specs, out_specs=P(), check_vma=False
    )


def replicate(state: PyTree, mesh: Mesh | None = None) -> PyTree:
    """Copy a state to every device of a mesh.

    Args:
      state: the state to copy; with several processes each gives the same one.
      mesh: as for `shard_step`; by default all devices of this process.

    Returns:
      The state, replicated over the mesh.

    Raises:
      ValueError: for a mesh of several axes.
    """
    mesh = _mesh(jax.local_devices()) if mesh is None else _one_axis(mesh)
    return _place(state, NamedSharding(mesh, P()))


def unreplicate(state: PyTree) -> PyTree:
    """The state that all devices hold, copied to the first device of this process."""
    return jax.tree.map(lambda leaf: jnp.copy(leaf.addressable_data(0)), state)


def shard_tasks(tasks: PyTree, mesh: Mesh) -> PyTree:
    """A batch on the devices of a mesh, a part on each.

    Args:
      tasks: the whole batch (a Task, or keys to sample it from), leading axis T, the same in
        every process.
      mesh: as for `shard_step`.

    Returns:
      The batch, its leading axis sharded over the mesh.

    Raises:
      ValueError: for a mesh of several axes, or if the devices do not divide T.
    """
    mesh = _one_axis(mesh)
    _check_shared(tasks, mesh.size)
    return _place(tasks, NamedSharding(mesh, P(TASK_AXIS)))


def _place(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """By way of the host: several processes have it in common, and donating spares the given."""

    def place(leaf: Any) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = place(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        host = np.array(leaf)
        return jax.make_array_from_callback(host.shape, sharding, host.__getitem__)

    return jax.tree.map(place, tree)


def _mesh(devices: Sequence[jax.Device]) -> Mesh:
    return Mesh(np.asarray(devices), (TASK_AXIS,), axis_types=(AxisType.Auto,))


def _one_axis(mesh: Mesh) -> Mesh:
    """The mesh with its only axis named and typed as the step needs it."""
    if mesh.devices.ndim != 1:
        raise ValueError(
            f"The tasks are shared along one axis, and the mesh has {mesh.devices.ndim}: "
            f"{dict(mesh.shape)}. Use task_mesh(), or a mesh of one axis."
        )
    return _mesh(mesh.devices.tolist())


def _check_shared(tasks: PyTree, num_devices: int) -> None:
    for leaf in jax.tree.leaves(tasks)[:1]:
        check_divides(num_devices, leaf.shape[0])
