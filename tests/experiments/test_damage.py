"""Thirty kinds of bad input and damage: each ends in a sentence, and what was saved is still there.

    python -m tests.test_damage    # prints them as a table

kill -9 is in test_killed.py.
"""

import contextlib
import errno
import io
import os
import re
import sys
import tempfile
import threading
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import msgpack
import numpy as np
import optax
import pytest

from experiments import few_shot, sinusoid
from experiments.common import training_loop
from jaxmeta import (
    TrainState,
    _collectives,
    checkpoint,
    datasets,
    evaluate,
    learners,
    make_step,
    networks,
    parallel,
    sample_tasks,
    training,
    transforms,
)
from jaxmeta import tasks as families

SAMPLER = families.two_tasks(shots=4, queries=3, features=2)
LEARNER = learners.prototypes(networks.mlp([3]), ways=2)
SGD = optax.sgd(0.1)
CONFIG = {"steps": 3}
SCRIBBLES = datasets.ImageClasses(
    np.zeros((4, 3, 8, 8), np.uint8), np.full(4, 3), np.zeros(4, int), ("A",), ("a", "b", "c", "d")
)


def start(learner=LEARNER, seed=0):
    return training.init(learner, SGD, jax.random.key(seed), SAMPLER(jax.random.key(0)))


def save(run, seed=2):
    checkpoint.save_newest(run / "toy.state", start(seed=seed), CONFIG | {"seconds": 1.0})


def resume(run, config=None, learner=LEARNER):
    return training_loop.resume(start(learner), name="toy", config=config or CONFIG, out=run)


def write(run, content):
    (run / "toy.state").write_bytes(content)
    return resume(run)


def newest(run):
    return (run / "toy.state").read_bytes()


def flipped(content):
    return content[:200] + bytes([content[200] ^ 1]) + content[201:]


def newer(content):
    return msgpack.packb(msgpack.unpackb(content) | {"format": 2})


def all_damaged(run):
    content = {path: path.read_bytes() for path in checkpoint.newest_first(run / "toy.state")}
    try:
        for path in content:
            path.write_bytes(b"")
        with warnings.catch_warnings(action="ignore"):
            resume(run)
    finally:
        for path, whole in content.items():
            path.write_bytes(whole)


def of_integers(run):
    checkpoint.save(run / "counts", {"w": jnp.ones(3, jnp.int32)}, CONFIG)
    checkpoint.restore(run / "counts", {"w": jnp.ones(3)})


def full_disk(run):
    """The file that is written aside is a device that is always full."""
    aside = f".toy.state.new.{os.getpid()}.{threading.get_ident()}"
    (run / aside).symlink_to("/dev/full")
    save(run)


def read_only(run):
    with pytest.MonkeyPatch.context() as patch:

        def refuse(path, mode="r", *args, **kwargs):
            if mode == "r":
                return path_open(path, mode, *args, **kwargs)
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        path_open = Path.open
        patch.setattr(Path, "open", refuse)
        save(run)


def train(run, step, state, num_steps=300):
    with contextlib.redirect_stderr(io.StringIO()):
        training_loop.train(
            step, state, name="toy", config=CONFIG, num_steps=num_steps, out=run, log_every=1
        )


def full_metrics(run):
    (run / "metrics.jsonl").symlink_to("/dev/full")
    train(run, lambda state: (state._replace(step=state.step + 1), {"loss": np.zeros(1)}), start())


def faults_without_end(run):
    tx = training_loop.skip_faults(SGD)

    def step(state):
        _, opt_state = tx.update(jnp.nan, state.opt_state)
        return TrainState(0.0, opt_state, state.key, state.step + 1), {"loss": np.zeros(1)}

    train(run, step, TrainState(0.0, tx.init(0.0), jax.random.key(0), jnp.int32(0)))


def bad_batch():
    tasks = sample_tasks(SAMPLER, jax.random.key(5), 3)
    x = np.array(tasks.support.x)
    x[1] = np.nan
    return tasks._replace(support=tasks.support._replace(x=jnp.asarray(x)))


def bad_step(mode):
    """Un-compiled, hence a loss that is cheap so."""

    def loss_fn(theta, task, key):
        loss = theta * task.support.x.sum()
        return loss, {"loss": loss}

    state = TrainState(jnp.ones(()), SGD.init(1.0), jax.random.key(0), jnp.int32(0))
    make_step(loss_fn, SGD, on_bad_task=mode)(state, bad_batch())


def main(run, module, *flags):
    """An experiment's refusal, as it prints it."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        code = module.main(["--out", str(run / "out"), *flags])
    assert code == 2
    raise ValueError(errors.getvalue().removeprefix("error: ").strip())


def out_is_a_file(run):
    (run / "out").write_text("")
    main(run, sinusoid, "--learner", "maml")


def not_a_zip(run):
    (run / "drawings.zip").write_bytes(b"PK but not really")
    main(run, few_shot, "--eval-only", "--eval-data", str(run / "drawings.zip"))


def checked(**functions):
    return transforms.checked(LEARNER._replace(**functions), name="mine")


def query():
    return SAMPLER(jax.random.key(0)).query


KINDS = {
    "newest checkpoint cut short": (lambda run: write(run, newest(run)[:-9]), "one before it"),
    "newest checkpoint with a flipped bit": (
        lambda run: write(run, flipped(newest(run))),
        "checksum differs.* one before it",
    ),
    "newest checkpoint empty": (lambda run: write(run, b""), "damaged.* one before it"),
    "newest checkpoint something else": (
        lambda run: write(run, b"\x89PNG"),
        "not a readable checkpoint.* one before it",
    ),
    "all checkpoints damaged": (all_damaged, "not a readable checkpoint"),
    "checkpoint of a newer format": (lambda run: write(run, newer(newest(run))), "upgrade jaxmeta"),
    "checkpoint of another learner": (
        lambda run: resume(run, learner=learners.prototypes(networks.mlp([4]), ways=2)),
        "another learner",
    ),
    "checkpoint of other settings": (lambda run: resume(run, {"steps": 9}), r"settings.*\(steps\)"),
    "checkpoint of integers": (of_integers, "another learner"),
    "no checkpoint": (
        lambda run: checkpoint.restore_newest(run / "absent", start()),
        "no checkpoint at",
    ),
    "full disk, checkpoint": (full_disk, "toy.state.* cannot be written .No space left on device"),
    "full disk, metrics": (
        full_metrics,
        "metrics.jsonl cannot be written .No space left on device",
    ),
    "read-only folder": (read_only, "toy.state.* cannot be written .Read-only file system"),
    "folder is a file": (out_is_a_file, "File exists"),
    "NaN in a support set, at start": (
        lambda run: training.init(
            LEARNER, SGD, jax.random.key(0), jax.tree.map(lambda leaf: leaf[1], bad_batch())
        ),
        "support inputs hold 8 values",
    ),
    "NaN in a support set, raise": (lambda run: bad_step("raise"), "1 of the 3 tasks"),
    "gradients not finite for 100 steps": (faults_without_end, "gradients of 100 outer steps"),
    "on_bad_task of another word": (lambda run: bad_step("drop"), "none of None, 'skip'"),
    "more devices than there are": (lambda run: parallel.task_mesh(999), "999 devices"),
    "mesh of two axes": (
        lambda run: evaluate(
            LEARNER,
            start().theta,
            SAMPLER,
            key=jax.random.key(0),
            mesh=jax.make_mesh((1, 1), ("a", "b")),
        ),
        "along one axis",
    ),
    "tasks that the devices do not divide": (
        lambda run: _collectives.check_divides(4, 25),
        "4 devices cannot share 25 tasks",
    ),
    "--devices without --parallel": (
        lambda run: main(run, sinusoid, "--devices", "2"),
        "add --parallel",
    ),
    "several processes without --process-id": (
        lambda run: main(run, few_shot, "--num-processes", "2", "--coordinator", "localhost:1"),
        "need all of --coordinator",
    ),
    "several processes with pmap": (
        lambda run: main(
            run,
            *(few_shot, "--num-processes", "2", "--coordinator", "localhost:1"),
            *("--process-id", "0", "--parallel", "pmap"),
        ),
        "use --parallel shard",
    ),
    "more ways than the data have": (
        lambda run: families.episodes(SCRIBBLES, ways=999),
        "999 ways",
    ),
    "data that are not there": (
        lambda run: main(run, few_shot, "--dataset", "omniglot", "--data-dir", str(run)),
        "images_evaluation",
    ),
    "data that are no archive": (not_a_zip, "drawings.zip"),
    "own adapt returns NaN": (
        lambda run: checked(adapt=lambda theta, *args, **kwargs: [jnp.nan]).adapt(
            start().theta, query()
        ),
        "mine.adapt returned w",
    ),
    "own predict loses a row": (
        lambda run: checked(predict=lambda theta, w, x: x[1:]).predict(0, 0, query().x),
        "mine.predict returned z of shape",
    ),
    "own loss of each row": (
        lambda run: transforms.checked_loss(lambda z, y, mask: z[:, 0], name="mine")(
            query().x, query().y, query().mask
        ),
        "mine.loss returned",
    ),
}


def sentence_of(kind, run):
    """What the user reads; three checkpoints lie there, of which the newest may be damaged."""
    for seed in range(3):
        save(run, seed)
    with warnings.catch_warnings(action="error", category=UserWarning):
        try:
            KINDS[kind][0](run)
        except (ValueError, OSError, UserWarning) as error:
            return " ".join(str(error).split())
    raise AssertionError(f"{kind}: nothing was said")


def newest_whole(run):
    """The seed that the newest checkpoint that can be read was made with."""
    kernels = [start(seed=seed).theta["network"][0]["kernel"] for seed in range(3)]
    for path in checkpoint.newest_first(run / "toy.state"):
        with contextlib.suppress(ValueError):
            kept = checkpoint.restore(path, start()).theta["network"][0]["kernel"]
            return next(seed for seed in range(3) if np.array_equal(kept, kernels[seed]))
    raise AssertionError("nothing is left")


@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_in_a_sentence_and_nothing_saved_is_lost(kind, tmp_path, monkeypatch):
    monkeypatch.delenv("JAXMETA_DATA", raising=False)
    said = sentence_of(kind, tmp_path)
    assert re.search(KINDS[kind][1], said), said
    damages_the_newest = "newest" in kind or "newer" in kind
    assert newest_whole(tmp_path) == (1 if damages_the_newest else 2)


if __name__ == "__main__":
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            said = sentence_of(kind, Path(folder)).replace(folder, "RUN").replace("|", "\\|")
            sys.stdout.write(f"| {kind} | {said} |\n")
