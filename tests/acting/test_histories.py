"""Histories as support sets, blank rows, and environments of another library."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import Examples, MetaLearner, learners, losses, meta_objective, networks
from jaxmeta.acting import (
    bernoulli_bandit,
    environment_tasks,
    from_gymnax,
    history_tasks,
    play,
    random_mdp,
    with_blank_rows,
)

KEY = jax.random.key(0)
BANDIT = bernoulli_bandit(arms=(2, 4), pulls=(3, 6))
LEARNER = with_blank_rows(
    learners.in_context(networks.identity(), size=8, num_heads=2, ways=4, capacity=10)
)


def test_histories_are_what_the_environment_says():
    tasks = jax.vmap(history_tasks(BANDIT))(jax.random.split(KEY, 500))
    lengths = np.asarray(tasks.support.mask.sum(axis=1))
    assert set(lengths.tolist()) == {0, 1, 2, 3, 4, 5}
    real = np.asarray(tasks.support.mask) > 0
    present = np.asarray(tasks.description)
    taken = np.take_along_axis(present, np.asarray(tasks.support.y), axis=1)
    assert (taken[real] == 1).all(), "only actions that there are"
    assert set(np.unique(np.asarray(tasks.support.x)[..., -1][real])) == {0.0, 1.0}
    for n in range(20):
        left = np.asarray(tasks.support.x)[n, :, 0][real[n]]
        assert (np.diff(left) < 0).all(), "each pull leaves fewer"
        if lengths[n]:
            assert float(tasks.query.x[n, 0, 0]) < left[-1]
    assert (np.asarray(tasks.query.x)[..., -1] == 0).all()


def test_the_label_is_the_best_action():
    process = random_mdp(states=3, actions=2, episodes=2, horizon=3)
    known = history_tasks(process)(KEY)
    draw_key, *_ = jax.random.split(KEY, 5)
    params = process.draw(draw_key)
    _, state = process.reset(KEY, params)
    state = state._replace(
        where=known.query.x[0, :3].argmax().astype(jnp.int32),
        time=2 - known.query.x[0, 3:6].argmax().astype(jnp.int32),
    )
    assert int(known.query.y[0]) == int(process.best_action(state, params))
    with pytest.raises(ValueError, match="has best_action"):
        history_tasks(process._replace(best_action=None))


def test_blank_rows_let_untried_actions_be_predicted():
    task = history_tasks(BANDIT)(jax.random.key(3))
    theta = LEARNER.init(jax.random.key(1), task)
    nothing = task.support._replace(mask=jnp.zeros_like(task.support.mask))
    there = jnp.array([1.0, 1.0, 0.0, 1.0])
    z = LEARNER.predict(theta, LEARNER.adapt(theta, nothing, description=there), task.query.x)
    least = jnp.finfo(jnp.float32).min
    np.testing.assert_array_equal(np.asarray(z[0] == least), [False, False, True, False])
    np.testing.assert_allclose(z[0, [0, 1]], z[0, 3], rtol=1e-5)
    with pytest.raises(ValueError, match="which actions there are"):
        LEARNER.adapt(theta, nothing)
    loss, _ = meta_objective(LEARNER, losses.cross_entropy)(theta, task, None)
    assert np.isfinite(loss)


def test_a_transformer_acts_row_by_row():
    task = environment_tasks(BANDIT)(jax.random.key(3))
    theta = LEARNER.init(jax.random.key(1), task)
    trial = jax.jit(lambda key: play(LEARNER, BANDIT, theta, task.description, key))(KEY)
    end = int(trial.mask.sum())
    assert end == int(task.description.pulls) and np.isfinite(trial.logits).all()
    rows = Examples(trial.rows, trial.actions, trial.mask)
    n = end - 1
    before = rows._replace(mask=rows.mask.at[n:].set(0.0))
    w = LEARNER.adapt(theta, before, description=BANDIT.actions(task.description))
    query = trial.rows[n].at[-1].set(0.0)
    np.testing.assert_allclose(
        LEARNER.predict(theta, w, query[None])[0], trial.logits[n], rtol=1e-4, atol=1e-4
    )


def test_a_learner_without_extend_stays_one():
    learner = with_blank_rows(learners.matching(networks.identity(), ways=4))
    assert isinstance(learner, MetaLearner) and learner.extend is None


@pytest.mark.parametrize("flags", [1, 2], ids=["done", "terminated and truncated"])
def test_environments_of_gymnax_fit(flags):
    """By its interface: a counter that begins anew at `params`, as gymnax does by itself."""

    def step(key, state, action, params):
        over = state + 1 >= params
        state = jnp.where(over, 0, state + 1)
        ended = (over,) if flags == 1 else (over, jnp.array(False))
        return jnp.full((2, 2), state), state, action, *ended, {}

    env = SimpleNamespace(
        num_actions=3, reset=lambda key, params: (jnp.zeros((2, 2)), jnp.int32(0)), step=step
    )
    family = from_gymnax(env, lambda key: jax.random.randint(key, (), 2, 4), num_steps=7)
    learner = learners.recurrent(networks.identity(), ways=3, size=4)
    task = environment_tasks(family)(KEY)
    theta = learner.init(jax.random.key(1), task)
    trial = jax.jit(lambda key: play(learner, family, theta, jnp.int32(3), key))(KEY)
    np.testing.assert_array_equal(trial.rows[:, 0], [0, 1, 2, 0, 1, 2, 0])
    np.testing.assert_array_equal(trial.rows[:, 4], [1, 0, 0, 1, 0, 0, 1])
    np.testing.assert_array_equal(trial.rewards, trial.actions)
    assert trial.mask.all(), "a trial goes on over the ends of episodes"
    with pytest.raises(ValueError, match="num_steps must be 1"):
        from_gymnax(env, lambda key: key, num_steps=0)
