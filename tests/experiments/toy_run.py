"""A toy run with three checkpoints, what it says when something is wrong, and what is left."""

import contextlib
import io
import re
import sys
import tempfile
import warnings
from pathlib import Path

import jax
import numpy as np
import optax

from experiments.common import training_loop
from jaxmeta import checkpoint, learners, networks, training
from jaxmeta import tasks as families

SAMPLER = families.two_tasks(shots=4, queries=3, features=2)
LEARNER = learners.prototypes(networks.mlp([3]), ways=2)
SGD = optax.sgd(0.1)
CONFIG = {"steps": 3}


def start(learner=LEARNER, seed=0):
    return training.init(learner, SGD, jax.random.key(seed), SAMPLER(jax.random.key(0)))


def save(run, seed=2):
    checkpoint.save_newest(run / "toy.state", start(seed=seed), CONFIG | {"seconds": 1.0})


def resume(run, config=None, learner=LEARNER):
    return training_loop.resume(start(learner), name="toy", config=config or CONFIG, out=run)


def train(run, step, state, num_steps=300):
    with contextlib.redirect_stderr(io.StringIO()):
        training_loop.train(
            step, state, name="toy", config=CONFIG, num_steps=num_steps, out=run, log_every=1
        )


def sentence_of(wrong, run):
    """What the user reads; three checkpoints lie there, of which the newest may be damaged."""
    for seed in range(3):
        save(run, seed)
    with warnings.catch_warnings(action="error", category=UserWarning):
        try:
            wrong(run)
        except (ValueError, OSError, UserWarning) as error:
            return " ".join(str(error).split())
    raise AssertionError("nothing was said")


def newest_whole(run):
    """The seed that the newest checkpoint that can be read was made with."""
    kernels = [start(seed=seed).theta["network"][0]["kernel"] for seed in range(3)]
    for path in checkpoint.newest_first(run / "toy.state"):
        with contextlib.suppress(ValueError):
            kept = checkpoint.restore(path, start()).theta["network"][0]["kernel"]
            return next(seed for seed in range(3) if np.array_equal(kept, kernels[seed]))
    raise AssertionError("nothing is left")


def assert_says(kind, run, newest):
    """It ends in the sentence of its kind, and the newest checkpoint is of that seed."""
    wrong, message = kind
    said = sentence_of(wrong, run)
    assert re.search(message, said), said
    assert newest_whole(run) == newest


def print_table(kinds):
    """A row of a table for each kind: what it ends with."""
    for kind, (wrong, _) in kinds.items():
        with tempfile.TemporaryDirectory() as folder:
            said = sentence_of(wrong, Path(folder)).replace(folder, "RUN").replace("|", "\\|")
            sys.stdout.write(f"| {kind} | {said} |\n")
