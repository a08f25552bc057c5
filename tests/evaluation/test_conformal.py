"""Prediction sets of learners: they hold the class of a new task at the level, for any shots."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import Examples, Task, learners, networks
from jaxmeta.evaluation import conformal, conformal_threshold, prediction_set

WAYS = 3
NET = networks.mlp([8])
HYPERNET = {"out_size": WAYS, "hidden": (5,), "context_size": 6}


def clusters(shots, queries=4):
    """Tasks of three clusters, some of them far apart and some not; their description is a mean."""

    def sampler(key):
        keys = jax.random.split(key, 4)
        spread = jax.random.uniform(keys[0], (), minval=0.3, maxval=3.0)
        centre = spread * jax.random.normal(keys[1], (WAYS, 2))
        y = jnp.arange(WAYS * (shots + queries)) % WAYS
        x = centre[y] + jax.random.normal(keys[2], (len(y), 2))
        cut = max(WAYS * shots, 1)
        # No support set is empty: without shots, a row of zeros that nothing can be learned from.
        support = Examples(x[:cut] * float(shots > 0), y[:cut], jnp.ones(cut))
        rest = slice(WAYS * shots, None)
        return Task(support, Examples(x[rest], y[rest], jnp.ones(len(y[rest]))), centre.ravel())

    return sampler


@pytest.mark.parametrize("shots", [0, 1, 5])
@pytest.mark.parametrize("level", [0.6, 0.9])
def test_sets_hold_over_new_tasks_with_any_number_of_shots(shots, level):
    sampler = clusters(shots)
    learner = learners.prototypes(NET, ways=WAYS)
    if not shots:
        learner = learners.hypernet(NET, source="description", **HYPERNET)
    theta = learner.init(jax.random.key(0), sampler(jax.random.key(0)))
    threshold = conformal(learner, theta, sampler, level, key=jax.random.key(1), num_tasks=300)

    def first_row(key):
        task = sampler(key)
        w = learner.adapt(theta, task.support, description=task.description)
        place = jax.random.randint(key, (), 0, len(task.query.y))
        z = learner.predict(theta, w, task.query.x)
        return jax.nn.softmax(z[place]), task.query.y[place]

    p, y = jax.jit(jax.vmap(first_row))(jax.random.split(jax.random.key(2), 2000))
    held = prediction_set(p, threshold)[np.arange(2000), np.asarray(y)].mean()
    # Both the threshold, of 300 tasks, and the share, of 2,000, vary.
    off = 3 * np.sqrt(level * (1 - level) * (1 / 300 + 1 / 2000))
    assert abs(held - level) < off


def test_rows_of_a_task_share_its_weight():
    scores, tasks = [0.1, 0.2, 0.3, 0.9], [0, 0, 0, 1]
    assert conformal_threshold(scores, 0.3, tasks) == 0.3
    assert conformal_threshold(scores, 0.5, tasks) == 0.9
    assert conformal_threshold(scores, 0.7, tasks) == np.inf
    with pytest.raises(ValueError, match="the task of each"):
        conformal_threshold(scores, 0.7, tasks[:-1])


def test_a_batch_is_its_sampler_and_a_score_can_be_ones_own():
    sampler, keys = clusters(2), jax.random.split(jax.random.key(1), 40)
    learner = learners.prototypes(NET, ways=WAYS)
    theta = learner.init(jax.random.key(0), sampler(keys[0]))
    drawn = conformal(learner, theta, sampler, key=jax.random.key(1), num_tasks=40)
    assert drawn == pytest.approx(conformal(learner, theta, jax.vmap(sampler)(keys)), abs=1e-6)
    own = conformal(
        learner,
        theta,
        jax.vmap(sampler)(keys),
        score=lambda z, y: (z.argmax(axis=1) != y).astype(z.dtype),
    )
    assert own in (0.0, 1.0)
    batch = jax.vmap(sampler)(keys)
    y = batch.query.y.at[3, 0].set(WAYS + 4)
    with pytest.raises(ValueError, match="[Tt]ask 3"):
        conformal(learner, theta, batch._replace(query=batch.query._replace(y=y)))
    with pytest.raises(ValueError, match="key"):
        conformal(learner, theta, sampler)
