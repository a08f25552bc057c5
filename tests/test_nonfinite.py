"""Bad tasks: left out of the mean exactly, counted, or refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import learners, losses, make_step, meta_objective, networks, sample_tasks, training
from jaxmeta import tasks as families

SAMPLER = families.two_tasks(shots=4, queries=3, features=2)
SGD = optax.sgd(0.1)
LEARNERS = {
    "metric": learners.prototypes(networks.mlp([3]), ways=2),
    "gradient": learners.maml(networks.mlp([3]), ways=2, num_steps=2, rate=0.1),
}
BAD = (1, 2, 5)


def smooth(z, y, mask):
    return jnp.tanh(z).mean()  # without the 1e30 of an absent class, which would hide the rest


def steps_of(learner, tx=SGD, **kwargs):
    state = training.init(learner, tx, jax.random.key(0), SAMPLER(jax.random.key(0)))
    return jax.jit(make_step(meta_objective(learner, smooth), tx, **kwargs)), state


def batch(bad=BAD, value=np.nan, part="support"):
    tasks = sample_tasks(SAMPLER, jax.random.key(5), 8)
    rows = getattr(tasks, part)
    x = np.array(rows.x)
    x[list(bad), 0, 0] = value
    return tasks._replace(**{part: rows._replace(x=jnp.asarray(x))})


def only(tasks, places):
    return jax.tree.map(lambda leaf: leaf[np.array(places)], tasks)


def assert_near(got, want):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got, want)


@pytest.mark.parametrize(
    ("name", "part", "chunk"),
    [("metric", "query", None), ("metric", "support", 1), ("gradient", "support", 4)],
)
def test_masked_the_means_are_those_of_the_good_tasks_alone(name, part, chunk):
    good = [i for i in range(8) if i not in BAD]
    step, state = steps_of(LEARNERS[name])
    want, want_metrics = step(state, only(batch(), good))
    masked, _ = steps_of(LEARNERS[name], on_bad_task="skip", tasks_per_chunk=chunk)
    got, metrics = masked(state, batch(part=part))
    assert metrics.pop("bad_tasks") == 3
    assert_near(got.theta, want.theta)
    assert_near(metrics, want_metrics)


def test_masked_a_batch_without_bad_tasks_is_as_without_the_mask():
    step, state = steps_of(LEARNERS["metric"])
    masked, _ = steps_of(LEARNERS["metric"], on_bad_task="skip")
    want, got = step(state, batch(bad=()))[0], masked(state, batch(bad=()))
    assert got[1]["bad_tasks"] == 0
    assert_near(got[0].theta, want.theta)


def test_a_finite_loss_with_an_infinite_gradient_is_bad_too():
    def loss_fn(theta, task, key):
        rooted = jnp.sqrt(theta * task.support.x[0, 0])  # 0 with slope infinity where x is 0
        return rooted, {"loss": rooted}

    state = training.TrainState(jnp.float32(0), SGD.init(0.0), jax.random.key(0), jnp.int32(0))
    _, metrics = make_step(loss_fn, SGD, on_bad_task="skip")(state, batch(bad=()))
    assert metrics["bad_tasks"] == 8


def test_without_a_good_task_the_step_is_skipped_and_counted():
    tx = optax.apply_if_finite(optax.adam(0.1), 10)
    masked, state = steps_of(LEARNERS["metric"], tx, on_bad_task="skip")
    after, metrics = masked(state, batch(bad=range(8)))
    assert metrics["bad_tasks"] == 8
    jax.tree.map(np.testing.assert_array_equal, after.theta, state.theta)
    assert after.opt_state.total_notfinite == 1 and after.step == 1
    after, _ = masked(after, batch())
    assert after.opt_state.notfinite_count == 0


def test_without_the_mask_one_bad_task_spoils_the_step():
    step, state = steps_of(LEARNERS["metric"])
    after, metrics = step(state, batch(bad=(1,)))
    assert "bad_tasks" not in metrics
    assert not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.theta))


@pytest.mark.slow
def test_raise_counts_bad_tasks_and_is_silent_without():
    step, state = steps_of(LEARNERS["metric"], on_bad_task="raise")
    after, metrics = jax.block_until_ready(step(state, batch(bad=())))
    assert metrics["bad_tasks"] == 0 and after.step == 1
    with pytest.raises(jax.errors.JaxRuntimeError, match="3 of the 8 tasks of outer step 0"):
        jax.block_until_ready(step(state, batch(value=np.inf)))
    step = make_step(
        meta_objective(LEARNERS["metric"], losses.cross_entropy), SGD, on_bad_task="raise"
    )
    with pytest.raises(ValueError, match="NaN or infinite.*on_bad_task='skip'"):
        step(state, batch())


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="on_bad_task='drop' is none of None, 'skip', 'raise'"):
        make_step(meta_objective(LEARNERS["metric"], losses.cross_entropy), SGD, on_bad_task="drop")


def test_nothing_is_looked_at_by_default():
    step, state = steps_of(LEARNERS["metric"])
    assert "is_finite" not in str(jax.make_jaxpr(step)(state, batch()))
    masked, _ = steps_of(LEARNERS["metric"], on_bad_task="skip")
    assert "is_finite" in str(jax.make_jaxpr(masked)(state, batch()))


def test_the_old_word_for_skip_works_and_warns():
    with pytest.warns(DeprecationWarning, match="is now on_bad_task='skip'"):
        make_step(meta_objective(LEARNERS["metric"], losses.cross_entropy), SGD, on_bad_task="mask")
