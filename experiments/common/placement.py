"""The devices that an experiment runs on: flags, starting them, and the run of steps on them.

    python -m experiments.few_shot --parallel pmap                 # all devices of this process
    python -m experiments.few_shot --parallel shard --devices 4    # a mesh of the first four

Several processes, also on several machines, run the same command, which differs in the process's
number alone; `--out` is a folder that all of them see, and the first one writes there:

    for i in 0 1; do
      python -m experiments.few_shot --learner prototypes --tasks-per-step 4 --parallel shard \\
        --coordinator localhost:9876 --num-processes 2 --process-id $i &
    done; wait

Under SLURM, on a TPU pod or in Kubernetes, where JAX finds the processes by itself, all of them run
the same line: `--parallel shard --num-processes auto`.

What comes out does not depend on any of these flags. If a process is lost, the others end within
half a minute, and `--resume` goes on from the last checkpoint, on as many devices as there are.
"""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh

from experiments.common.command_line import flag
from jaxmeta import TrainState, parallel

_START_SECONDS = 45
_LIMITS: dict[str, Any] = {
    "initialization_timeout": _START_SECONDS,
    "heartbeat_timeout_seconds": 20,
    "shutdown_timeout_seconds": 10,
}


def count_or_auto(text: str) -> int | str:
    """How `--num-processes` is read."""
    return text if text == "auto" else int(text)


@dataclass(frozen=True)
class Devices:
    """The flags that `start` reads."""

    parallel: Literal["none", "pmap", "shard"] = "none"
    devices: int | None = flag(
        None, "how many share the tasks, all by default; virtual ones on CPU"
    )
    coordinator: str | None = flag(None, "HOST:PORT of the first of several processes")
    num_processes: int | str = flag(
        1, "auto: JAX finds them (SLURM, TPU pods, Kubernetes)", type=count_or_auto
    )
    process_id: int | None = flag(None, "0 for the first")


def device_flags() -> Any:
    """The group of flags of an experiment that runs on several devices."""
    return flag(Devices(), "devices; the results do not depend on them")


@dataclass(frozen=True)
class Placement:
    """The devices of a run.

    Attributes:
      compile: compiles a step, or a run of steps; what comes out consumes the state it is given.
      place: puts a state on the devices.
      wait: goes on when all processes are here, for example to read what the first has written.
      mesh: the devices that share the tasks, None for one device.
    """

    compile: Callable[[Callable[..., Any]], Callable[..., Any]]
    place: Callable[[TrainState], TrainState]
    wait: Callable[[], None]
    mesh: Mesh | None


def start(flags: Devices) -> Placement:
    """Start the devices; nothing of JAX may have been used before.

    Raises:
      ValueError: for flags that do not go together, a process that does not come, or devices that
        are not there.
    """
    if flags.num_processes == "auto":
        num_processes = _join_those_found(flags)
    else:
        num_processes = int(flags.num_processes)
        _check(flags, num_processes)
        if flags.devices is not None and flags.devices > num_processes:
            _make_virtual(flags.devices, num_processes)
        if num_processes > 1:
            _join(flags)
    placement = place_on(flags.parallel, flags.devices)
    mesh = placement.mesh
    if mesh is not None and len({each.process_index for each in mesh.devices.flat}) < num_processes:
        raise ValueError(
            f"The first {mesh.size} devices are not of all {num_processes} processes: "
            "leave out --devices, or give a larger number."
        )
    # Connecting has a time limit of half a minute, and one process may compile for longer than that
    # while another waits for it: hence now.
    placement.wait()
    return placement


def place_on(kind: str, devices: int | None) -> Placement:
    """A placement on devices that are there.

    Args:
      kind: as `--parallel` says it.
      devices: how many share the tasks; by default all.

    Raises:
      ValueError: if there are not so many.
    """
    # It refuses what is not there before there is work to lose.
    mesh = None if kind == "none" else parallel.task_mesh(devices)

    def compile(run: Callable[..., Any]) -> Callable[..., Any]:
        if mesh is None:
            return jax.jit(run, donate_argnums=0)
        if kind == "pmap":
            return parallel.pmap_step(run, mesh.devices.tolist())
        return parallel.shard_step(run, mesh)

    def place(state: TrainState) -> TrainState:
        return state if mesh is None else parallel.replicate(state, mesh)

    def wait() -> None:
        if mesh is not None and jax.process_count() > 1:
            present = parallel.shard_tasks(np.arange(mesh.size), mesh)
            jax.block_until_ready(parallel.all_gather_map(lambda _, each: each, mesh)((), present))

    return Placement(compile, place, wait, mesh)


def _check(flags: Devices, num_processes: int) -> None:
    """Refuse flags that do not go together."""
    several = num_processes > 1
    if several != (flags.coordinator is not None) or several != (flags.process_id is not None):
        raise ValueError(
            "Several processes need all of --coordinator HOST:PORT, --num-processes of 2 or more "
            "and --process-id; one process needs none of them."
        )
    if flags.devices is not None and flags.parallel == "none":
        raise ValueError("--devices says how many share the tasks: add --parallel pmap or shard.")
    if not several:
        return
    if flags.parallel != "shard":
        raise ValueError("Several processes share the tasks by a mesh: use --parallel shard.")
    assert flags.process_id is not None and flags.coordinator is not None
    if flags.process_id >= num_processes:
        raise ValueError(
            f"--process-id counts from 0: of {num_processes} processes the last one is "
            f"{num_processes - 1}, got {flags.process_id}."
        )
    if not flags.coordinator.rpartition(":")[2].isdecimal():
        raise ValueError(f"--coordinator is HOST:PORT, got {flags.coordinator}.")


def _join_those_found(flags: Devices) -> int:
    """Wait for the processes that JAX finds in its environment; returns their number."""
    if flags.coordinator is not None or flags.process_id is not None:
        raise ValueError(
            "--num-processes auto finds the processes by itself: leave out --coordinator and "
            "--process-id, or give the number of processes."
        )
    if flags.parallel != "shard":
        raise ValueError("Several processes share the tasks by a mesh: use --parallel shard.")
    try:
        jax.distributed.initialize(**_LIMITS)
    except (ValueError, RuntimeError, OSError) as error:
        raise ValueError(
            f"No processes were found to run with ({error}): --num-processes auto is for SLURM, "
            "TPU pods and Kubernetes; elsewhere give --coordinator, --num-processes and "
            "--process-id."
        ) from error
    return jax.process_count()


def _make_virtual(devices: int, num_processes: int) -> None:
    """On a machine without accelerators: as many devices as were asked for."""
    try:
        jax.config.update("jax_num_cpu_devices", -(-devices // num_processes))
    except RuntimeError as error:
        raise ValueError(
            f"The number of devices is fixed once JAX was used in a process: run the command with "
            f"--devices {devices} in a new one."
        ) from error
    if (os.cpu_count() or 1) < 2 * devices:
        # XLA takes it for the number of cores. Without a thread for each device, devices that wait
        # for each other in a collective keep those from running that they wait for.
        os.environ.setdefault("NPROC", str(max(16, 2 * devices)))


def _join(flags: Devices) -> None:
    """Wait for all processes to start; jax ends the program if one of them is lost later on."""
    assert flags.process_id is not None and flags.coordinator is not None
    try:
        if flags.process_id > 0:
            _reach(flags.coordinator)
        jax.distributed.initialize(
            flags.coordinator,
            int(flags.num_processes),
            flags.process_id,
            **_LIMITS,
        )
    except (jax.errors.JaxRuntimeError, OSError) as error:
        raise ValueError(
            f"Process {flags.process_id} of {flags.num_processes} could not join the others "
            f"at {flags.coordinator} within {_START_SECONDS} seconds ({error}). Start all, each "
            "with its own --process-id, and see that they reach the first."
        ) from error


def _reach(coordinator: str) -> None:
    """Wait until the first process listens: jax would end the program without a sentence."""
    host, _, port = coordinator.rpartition(":")
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1.0).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
