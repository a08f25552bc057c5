"""Tasks of labelled vectors: rows of their classes, none twice, with the names of the classes."""

import jax
import numpy as np
import pytest

from jaxmeta import evaluate, learners, networks
from jaxmeta.evaluation import conformal, conformal_threshold
from jaxmeta.tasks import vector_episodes

COUNTS = (5, 9, 6, 7)
LABELS = np.repeat(["c", "a", "d", "b"], COUNTS)
X = np.stack([np.arange(27.0), np.repeat([2.0, 0.0, 3.0, 1.0], COUNTS)], axis=1)
"""A number for each row, and the place of its class."""


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_of_their_classes_and_none_is_there_twice(seed):
    names = np.eye(4, 3)
    sampler = vector_episodes(X, LABELS, ways=3, shots=2, queries=3, names=names)
    key = jax.random.key(seed)
    task, classes = jax.jit(sampler)(key), sampler.classes(key)
    rows = np.concatenate([task.support.x[:, 0], task.query.x[:, 0]])
    assert len(set(rows.tolist())) == 15 and len(set(classes.tolist())) == 3
    for part in (task.support, task.query):
        np.testing.assert_array_equal(part.x[:, 1], np.asarray(classes)[np.asarray(part.y)])
        assert (part.mask == 1).all()
    np.testing.assert_array_equal(task.description, names[np.asarray(classes)])
    again, drawn = sampler.with_classes(key)
    np.testing.assert_array_equal(again.support.x, task.support.x)
    np.testing.assert_array_equal(drawn, classes)


def test_every_class_and_every_number_of_shots_is_drawn():
    sampler = vector_episodes(X, LABELS, ways=2, shots=(1, 3), queries=1)
    tasks = jax.vmap(sampler)(jax.random.split(jax.random.key(0), 200))
    classes = jax.vmap(sampler.classes)(jax.random.split(jax.random.key(0), 200))
    np.testing.assert_allclose(np.bincount(classes.ravel()) / 400, 0.25, atol=0.05)
    assert set(tasks.support.mask.sum(axis=1).tolist()) == {2.0, 4.0, 6.0}
    real = np.asarray(tasks.support.mask) == 1
    assert (np.asarray(tasks.support.y)[~real] == -1).all()
    assert tasks.description is None


def test_half_precision_is_kept_until_a_task_is_drawn():
    task = vector_episodes(X.astype(np.float16), LABELS, ways=2, queries=2)(jax.random.key(0))
    assert task.support.x.dtype == np.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ways": 5}, "5 classes of 1"),
        ({"queries": 5}, "c has 5 rows"),
        ({"shots": (3, 2)}, "a range"),
        ({"shots": 0}, "shots must be 1"),
        ({"y": LABELS[:-1]}, "reads x"),
        ({"x": X[:, 0]}, "reads x"),
        ({"names": np.eye(3)}, "3 rows for the 4 classes"),
    ],
)
def test_what_no_task_can_be_drawn_from_is_refused(change, message):
    given = {"x": X, "y": LABELS, "ways": 2, "queries": 3, **change}
    with pytest.raises(ValueError, match=message):
        vector_episodes(given.pop("x"), given.pop("y"), **given)


def clusters(num_classes, seed):
    """Vectors of classes of which some are wide and some are narrow."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(num_classes), 12)
    width = rng.uniform(0.2, 1.5, num_classes)[y, None]
    return rng.normal(size=(num_classes, 3))[y] + width * rng.normal(size=(len(y), 3)), y


def scores_and_classes(learner, theta, sampler, key, num_tasks):
    """One less the probability of the right class, and which class of the data that is, by row."""
    keys = jax.random.split(key, num_tasks)
    batch, held = jax.vmap(sampler.with_classes)(keys)
    kept = evaluate(learner, theta, batch, keep_predictions=True).predictions
    p, y = np.asarray(jax.nn.softmax(kept.z)), kept.y
    scores = 1 - np.take_along_axis(p, y[..., None], axis=2)[..., 0]
    return scores.ravel(), np.take_along_axis(np.asarray(held), y, axis=1).ravel()


def test_sets_over_classes_take_each_class_for_one():
    learner = learners.prototypes(networks.identity(), ways=3)
    sampler = vector_episodes(*clusters(6, 0), ways=3, shots=2, queries=3)
    theta = learner.init(jax.random.key(0), sampler(jax.random.key(0)))
    key = jax.random.key(1)
    found = conformal(learner, theta, sampler, 0.7, key=key, num_tasks=50, over="classes")
    scores, classes = scores_and_classes(learner, theta, sampler, key, 50)
    want = conformal_threshold(scores, 0.7, classes)
    assert found == pytest.approx(want, abs=1e-6)
    # Six classes are too few for nine in ten, however many tasks there are.
    few = conformal(learner, theta, sampler, 0.9, key=key, num_tasks=50, over="classes")
    assert few == np.inf
    batch = jax.vmap(sampler)(jax.random.split(key, 5))
    with pytest.raises(ValueError, match="needs a sampler that says"):
        conformal(learner, theta, batch, over="classes")


def test_they_hold_on_new_classes_on_average():
    """Where those over tasks of a few classes do not; thirty draws of the classes.

    By the scores, as `conformal` does: see above.
    """
    learner = learners.prototypes(networks.identity(), ways=3)
    level, held = 0.8, []
    for seed in range(30):
        x, y = clusters(24, seed)
        known = y < 12
        samplers = [
            vector_episodes(x[rows], y[rows], ways=3, shots=1, queries=3)
            for rows in (known, ~known)
        ]
        theta = learner.init(jax.random.key(0), samplers[0](jax.random.key(0)))
        key = jax.random.key(seed)
        scores, classes = scores_and_classes(learner, theta, samplers[0], key, 60)
        q = conformal_threshold(scores, level, classes)
        new, _ = scores_and_classes(learner, theta, samplers[1], key, 60)
        held.append((new <= q).mean())
    assert level - 0.02 < np.mean(held) < level + 0.1
