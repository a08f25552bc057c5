"""Evaluation: the mean and the interval by hand, however the tasks are handed over."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import (
    evaluate,
    learners,
    networks,
    paired_difference,
    parallel,
    sample_tasks,
    sparsity,
    tasks,
)
from jaxmeta.evaluation import Evaluation, interval95
from jaxmeta.transforms import sparsify

SAMPLER = tasks.two_tasks(shots=5, queries=8, features=2)
LEARNER = learners.prototypes(networks.identity(), ways=2)
THETA = {"network": (), "log_scale": jnp.zeros(())}
KEY = jax.random.key(1)


def test_interval_is_1_96_standard_errors_of_the_mean():
    values = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    want = 1.959964 * math.sqrt(0.3) / math.sqrt(5)  # the sample variance is (2*.36 + 3*.16) / 4
    np.testing.assert_allclose(interval95(values), want, rtol=1e-6)
    assert interval95(np.full(9, 0.7)) < 1e-12


def test_interval_of_one_task_is_infinite():
    assert interval95(np.array([0.5])) == math.inf
    assert evaluate(LEARNER, THETA, SAMPLER, key=KEY, num_tasks=1).ci95 == math.inf


def test_interval_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(0)
    runs = rng.uniform(size=(2000, 40))
    covered = [abs(run.mean() - 0.5) <= interval95(run) for run in runs]
    assert 0.92 < np.mean(covered) < 0.97


def test_mean_and_interval_are_those_of_a_python_loop_over_tasks():
    keys = jax.random.split(KEY, 7)
    by_hand = []
    for key in keys:
        task = SAMPLER(key)
        w = LEARNER.adapt(THETA, task.support)
        z = LEARNER.predict(THETA, w, task.query.x)
        by_hand.append(np.mean(np.argmax(z, axis=1) == np.asarray(task.query.y)))
    result = evaluate(LEARNER, THETA, SAMPLER, key=KEY, num_tasks=7)
    np.testing.assert_allclose(result.per_task, by_hand, rtol=1e-6)
    np.testing.assert_allclose(result.mean, np.mean(by_hand), rtol=1e-6)
    np.testing.assert_allclose(result.ci95, interval95(np.array(by_hand)), rtol=1e-5)
    assert result.num_tasks == 7 and np.std(by_hand) > 0.0


def test_a_batch_of_tasks_gives_what_the_sampler_gives():
    drawn = evaluate(LEARNER, THETA, SAMPLER, key=KEY, num_tasks=6)
    batch = evaluate(LEARNER, THETA, sample_tasks(SAMPLER, KEY, 6))
    np.testing.assert_array_equal(drawn.per_task, batch.per_task)
    assert drawn._replace(per_task=0) == batch._replace(per_task=0)


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_chunk_size_does_not_change_the_result(chunk):
    want = evaluate(LEARNER, THETA, SAMPLER, key=KEY, num_tasks=6, tasks_per_chunk=3)
    got = evaluate(LEARNER, THETA, SAMPLER, key=KEY, num_tasks=6, tasks_per_chunk=chunk)
    np.testing.assert_allclose(got.per_task, want.per_task, rtol=1e-6)
    np.testing.assert_allclose(got.ci95, want.ci95, rtol=1e-6)


@pytest.mark.parametrize("given", ["sampler", "batch"])
def test_a_mesh_gives_what_one_device_gives(given):
    """On the devices of this process; several are in test_parallel.py."""
    tasks = SAMPLER if given == "sampler" else sample_tasks(SAMPLER, KEY, 5)
    want = evaluate(LEARNER, THETA, tasks, key=KEY, num_tasks=5)
    got = evaluate(LEARNER, THETA, tasks, key=KEY, num_tasks=5, mesh=parallel.task_mesh())
    np.testing.assert_array_equal(got.per_task, want.per_task)
    assert got._replace(per_task=0) == want._replace(per_task=0)


def test_two_learners_and_one_key_see_the_same_tasks():
    def first_query(z, y, mask):
        return jnp.dot(y.astype(jnp.float32), jnp.exp2(jnp.arange(8.0)))

    other = learners.nearest_neighbour(ways=2)
    one, two = (
        evaluate(learner, theta, SAMPLER, key=KEY, num_tasks=5, metric=first_query)
        for learner, theta in ((LEARNER, THETA), (other, {}))
    )
    np.testing.assert_array_equal(one.per_task, two.per_task)
    assert len(set(one.per_task.tolist())) > 1


def test_density_nonzeros_and_bytes_are_means_over_tasks():
    sparse = sparsify(LEARNER, sparsity.top_k(0.25))  # w has 2 means of 2 features: 4 numbers
    dense, thin = (
        evaluate(learner, THETA, SAMPLER, key=KEY, num_tasks=4) for learner in (LEARNER, sparse)
    )
    assert (dense.density, dense.nonzeros, dense.num_bytes) == (1.0, 4.0, 16.0)
    assert (thin.density, thin.nonzeros, thin.num_bytes) == (0.25, 1.0, 8.0)


def test_mistakes_are_sentences():
    with pytest.raises(ValueError, match="key=jax.random.key"):
        evaluate(LEARNER, THETA, SAMPLER)
    for name in ("num_tasks", "tasks_per_chunk"):
        with pytest.raises(ValueError, match=f"{name} must be 1 or more, got 0"):
            evaluate(LEARNER, THETA, SAMPLER, key=KEY, **{name: 0})


def test_a_paired_difference_takes_the_spread_of_the_tasks_away():
    hardness = np.linspace(0.0, 1.0, 50)

    def judged(values):
        return Evaluation(values.mean(), interval95(values), values, 1.0, 1.0, 4.0)

    better, worse = judged(hardness), judged(hardness - 0.1 + 0.01 * (-1.0) ** np.arange(50))
    mean, ci95 = paired_difference(better, worse)
    np.testing.assert_allclose(mean, 0.1)
    np.testing.assert_allclose(ci95, 1.96 * 0.01 / 7, rtol=1e-3)
    assert mean > ci95 and mean < better.ci95 + worse.ci95
    with pytest.raises(ValueError, match="50 and 20 tasks"):
        paired_difference(better, judged(hardness[:20]))
