"""Kinds of bad input: each ends in a sentence, and what was saved is still there.

    python -m tests.experiments.test_bad_input    # prints them as a table

Damage to what a run writes is in test_damage.py.
"""

import contextlib
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import few_shot, sinusoid
from experiments.common import training_loop
from jaxmeta import (
    TrainState,
    _collectives,
    datasets,
    evaluate,
    make_step,
    parallel,
    sample_tasks,
    training,
    transforms,
)
from jaxmeta import tasks as families
from tests.experiments.toy_run import (
    LEARNER,
    SAMPLER,
    SGD,
    assert_says,
    print_table,
    start,
    train,
)

SCRIBBLES = datasets.ImageClasses(
    np.zeros((4, 3, 8, 8), np.uint8), np.full(4, 3), np.zeros(4, int), ("A",), ("a", "b", "c", "d")
)


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


@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_in_a_sentence_and_nothing_saved_is_lost(kind, tmp_path, monkeypatch):
    monkeypatch.delenv("JAXMETA_DATA", raising=False)
    assert_says(KINDS[kind], tmp_path, newest=2)


if __name__ == "__main__":
    print_table(KINDS)
