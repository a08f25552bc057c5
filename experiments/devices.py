"""The devices that an experiment runs on: flags, starting them, and the run of steps on them.

    python -m experiments.few_shot --parallel pmap                 # all devices of this process
    python -m experiments.few_shot --parallel shard --devices 4    # a mesh of the first four

Several processes, also on several machines, run the same command, which differs in the process's
number alone; `--out` is a folder that all of them see, and the first one writes there:

    for i in 0 1; do
      python -m experiments.few_shot --learner prototypes --tasks-per-step 4 --parallel shard \\
        --coordinator localhost:9876 --num-processes 2 --process-id $i &
    done; wait

What comes out does not depend on any of these flags. If a process is lost, the others end within
half a minute, and `--resume` goes on from the last checkpoint, on as many devices as there are.
"""

import argparse
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxmeta import TrainState, parallel

_START_SECONDS, _LOST_SECONDS, _END_SECONDS = 45, 20, 10


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that `start` reads."""
    group = parser.add_argument_group("devices; the results do not depend on them")
    group.add_argument("--parallel", choices=("none", "pmap", "shard"), default="none")
    group.add_argument(
        "--devices", type=int, help="how many share the tasks, all by default; virtual ones on CPU"
    )
    group.add_argument("--coordinator", help="HOST:PORT of the first of several processes")
    group.add_argument("--num-processes", type=int, default=1)
    group.add_argument("--process-id", type=int, help="0 for the first")


def start(options: argparse.Namespace) -> None:
    """Start the devices; nothing of JAX may have been used before.

    Raises:
      ValueError: for flags that do not go together, a process that does not come, or devices that
        are not there.
    """
    several = options.num_processes > 1
    if several != (options.coordinator is not None) or several != (options.process_id is not None):
        raise ValueError(
            "Several processes need all of --coordinator HOST:PORT, --num-processes of 2 or more "
            "and --process-id; one process needs none of them."
        )
    if several and options.parallel != "shard":
        raise ValueError("Several processes share the tasks by a mesh: use --parallel shard.")
    if several and options.process_id >= options.num_processes:
        raise ValueError(
            f"--process-id counts from 0: of {options.num_processes} processes the last one is "
            f"{options.num_processes - 1}, got {options.process_id}."
        )
    if several and not options.coordinator.rpartition(":")[2].isdecimal():
        raise ValueError(f"--coordinator is HOST:PORT, got {options.coordinator}.")
    if options.devices is not None and options.parallel == "none":
        raise ValueError("--devices says how many share the tasks: add --parallel pmap or shard.")
    if options.devices is not None and options.devices > options.num_processes:
        _make_virtual(options.devices, options.num_processes)
    if several:
        _join(options)
    found = mesh(options)  # refuses what is not there before there is work to lose
    if found is not None and len({each.process_index for each in found.devices.flat}) < (
        options.num_processes
    ):
        raise ValueError(
            f"The first {found.size} devices are not of all {options.num_processes} processes: "
            "leave out --devices, or give a larger number."
        )
    # Connecting has a time limit of half a minute, and one process may compile for longer than that
    # while another waits for it: hence now.
    wait_for_all(options)


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


def _join(options: argparse.Namespace) -> None:
    """Wait for all processes to start; jax ends the program if one of them is lost later on."""
    try:
        if options.process_id > 0:
            _reach(options.coordinator)
        jax.distributed.initialize(
            options.coordinator,
            options.num_processes,
            options.process_id,
            initialization_timeout=_START_SECONDS,
            heartbeat_timeout_seconds=_LOST_SECONDS,
            shutdown_timeout_seconds=_END_SECONDS,
        )
    except (jax.errors.JaxRuntimeError, OSError) as error:
        raise ValueError(
            f"Process {options.process_id} of {options.num_processes} could not join the others "
            f"at {options.coordinator} within {_START_SECONDS} seconds ({error}). Start all, each "
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


def mesh(options: argparse.Namespace) -> Mesh | None:
    """The devices that were asked for, if any were."""
    return None if options.parallel == "none" else parallel.task_mesh(options.devices)


def compiled(run: Callable[..., Any], options: argparse.Namespace) -> Callable[..., Any]:
    """A step, or a run of steps, on the devices; it consumes the state that `placed` returns."""
    devices = mesh(options)
    if devices is None:
        return jax.jit(run, donate_argnums=0)
    if options.parallel == "pmap":
        return parallel.pmap_step(run, devices.devices.tolist())
    return parallel.shard_step(run, devices)


def placed(state: TrainState, options: argparse.Namespace) -> TrainState:
    """The state on the devices."""
    devices = mesh(options)
    return state if devices is None else parallel.replicate(state, devices)


def wait_for_all(options: argparse.Namespace) -> None:
    """Go on when all processes are here, for example to read what the first one has written."""
    if options.num_processes > 1:
        meeting = parallel.task_mesh(options.devices)
        present = parallel.shard_tasks(np.arange(meeting.size), meeting)
        jax.block_until_ready(parallel.gathered(lambda _, each: each, meeting)((), present))
