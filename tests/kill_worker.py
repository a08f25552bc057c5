"""A short training run that resumes, in a process of its own: to be killed, or to go on elsewhere.

    python -m tests.kill_worker --out OUT [--steps N] [--write-seconds S] [--parallel shard ...]

It saves after each step, and takes S seconds for the write and for each rename of a save, so that
a killer meets them.
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import optax

from experiments.common import placement, training_loop
from experiments.common.command_line import flag, in_a_sentence, parse
from jaxmeta import (
    learners,
    losses,
    make_step,
    meta_objective,
    networks,
    scan_steps,
    tasks,
    training,
)

SAMPLER = tasks.two_tasks(shots=4, queries=3, features=2)
LEARNER = learners.prototypes(networks.mlp([8]), ways=2)
TX = training_loop.skip_faults(optax.sgd(0.01))


def start():
    return training.init(LEARNER, TX, jax.random.key(0), SAMPLER(jax.random.key(0)))


def slow_down(seconds):
    """Take that long over the write of a checkpoint and over each rename."""
    fsync, replace = os.fsync, Path.replace

    def slow_fsync(descriptor):
        time.sleep(seconds)
        fsync(descriptor)

    def slow_replace(source, target):
        time.sleep(seconds)
        return replace(source, target)

    os.fsync, Path.replace = slow_fsync, slow_replace


@dataclass(frozen=True)
class Options:
    """The command line."""

    out: Path = flag(Path(), "folder for all that is written", required=True)
    steps: int = 100
    write_seconds: float = 0.0
    devices_flags: placement.Devices = placement.device_flags()


@in_a_sentence
def main(arguments=None):
    options = parse(Options, arguments, experiment="kill_worker", description=__doc__)
    placed = placement.start(options.devices_flags)
    slow_down(options.write_seconds)
    training_loop._SAVE_EVERY_SECONDS = 0.0
    step = make_step(meta_objective(LEARNER, losses.cross_entropy), TX)
    run = scan_steps(step, SAMPLER, num_steps=1, tasks_per_step=4)
    settings = {"name": "toy", "config": {}, "out": options.out}
    state, _ = training_loop.resume(start(), **settings)
    training_loop.train(
        placed.compile(run),
        placed.place(state),
        num_steps=options.steps,
        **settings,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
