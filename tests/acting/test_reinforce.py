"""MAML with policy gradients: inner steps in NumPy, and the gradient of the expected return."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import Examples, networks
from jaxmeta.acting import (
    actor_critic,
    actor_critic_objective,
    bernoulli_bandit,
    environment_tasks,
    play,
    reinforce,
)

KEY = jax.random.key(0)
BANDIT = bernoulli_bandit(arms=2, pulls=2)
LEARNER = reinforce(networks.identity(), ways=2, num_steps=2, rate=2.0)


def theta_of(learner, bandit):
    theta = learner.init(jax.random.key(1), environment_tasks(bandit)(KEY))
    own = theta if isinstance(theta, dict) else theta.learner
    own["policy"]["out"]["bias"] = jnp.array([0.3, -0.2])
    return theta


def test_the_policy_is_that_after_a_gradient_step():
    """In NumPy, for a linear policy."""
    theta = theta_of(LEARNER, BANDIT)
    theta["policy"]["out"]["kernel"] = jnp.zeros((2, 2))
    theta["baseline"] = jnp.float32(0.4)
    rows = jnp.array([[1.0, 0.3, 1.0], [0.5, 0.2, 0.0]])
    w = LEARNER.adapt(theta, Examples(rows, jnp.array([0, 1]), jnp.ones(2)))
    chance = np.exp([0.3, -0.2]) / np.exp([0.3, -0.2]).sum()
    weights = np.array([(1.0 - 0.4) + (0.0 - 0.4), 0.0 - 0.4])
    slopes = -(weights[:, None] * (np.eye(2) - chance)) / 2
    seen = np.asarray(rows)[:, :2]
    want = [0.3, -0.2] - 2.0 * slopes.sum(axis=0) - 2.0 * seen @ (seen.T @ slopes)
    np.testing.assert_allclose(LEARNER.predict(theta, w, rows), want, rtol=1e-5)


def test_no_history_no_step_and_padding_is_nothing():
    theta = theta_of(LEARNER, BANDIT)
    x = jnp.array([[1.0, 0.3, 0.0]])
    nothing = Examples(jnp.full((1, 3), jnp.nan), jnp.array([-1]), jnp.zeros(1))
    w = LEARNER.adapt(theta, nothing)
    policy = theta["policy"]["out"]
    want = x[:, :2] @ policy["kernel"] + policy["bias"][None]
    np.testing.assert_allclose(LEARNER.predict(theta, w, x), want, rtol=1e-5)
    row = Examples(x, jnp.array([1]), jnp.ones(1))
    grown = LEARNER.extend(theta, w, row)
    for got, want in zip(
        jax.tree.leaves(grown), jax.tree.leaves(LEARNER.adapt(theta, row)), strict=True
    ):
        np.testing.assert_array_equal(got, want)


def test_the_outer_gradient_is_that_of_the_expected_return():
    """By going through all histories of two pulls: nothing is left out of it."""
    learner = actor_critic(LEARNER, BANDIT)
    theta, means = theta_of(learner, BANDIT), jnp.array([0.9, 0.2])
    objective = actor_critic_objective(learner, BANDIT, entropy=0.0, decay=1.0)

    def task_of(key):
        task = environment_tasks(BANDIT)(key)
        return task._replace(description=task.description._replace(means=means))

    def estimate(key):
        return jax.grad(lambda theta: objective(theta, task_of(key), key)[0])(theta).learner

    def expected(own):
        params = task_of(KEY).description
        obs, state = BANDIT.reset(KEY, params)
        later, *_ = BANDIT.step(KEY, state, 0, params)
        first, second = (jnp.append(each, 0.0)[None] for each in (obs, later))
        blank = LEARNER.adapt(own, Examples(first, jnp.zeros(1, int), jnp.zeros(1)))
        start = jax.nn.softmax(LEARNER.predict(own, blank, first)[0])
        total = start @ means
        for arm in range(2):
            for reward in (0.0, 1.0):
                row = Examples(first.at[0, -1].set(reward), jnp.array([arm]), jnp.ones(1))
                w = LEARNER.extend(own, blank, row)
                chance = jax.nn.softmax(LEARNER.predict(own, w, second)[0])
                weight = means[arm] if reward else 1.0 - means[arm]
                total += start[arm] * weight * (chance @ means)
        return total / 2.0

    drawn = jax.jit(jax.vmap(estimate))(jax.random.split(KEY, 6000))
    exact = jax.jit(jax.grad(expected))(theta.learner)
    for found, want in zip(jax.tree.leaves(drawn), jax.tree.leaves(exact), strict=True):
        error = found.std(axis=0) / np.sqrt(6000) + 1e-7
        assert float(jnp.abs((found.mean(axis=0) + want) / error).max()) < 4.5
    assert float(jnp.abs(exact["log_rate"])) > 1e-3


def test_what_reinforce_refuses():
    for wrong, said in (({"ways": 0}, "ways must be"), ({"rate": 0.0}, "rate above zero")):
        with pytest.raises(ValueError, match=said):
            reinforce(networks.identity(), **({"ways": 2, "num_steps": 2} | wrong))
    theta = theta_of(LEARNER, BANDIT)
    trial = play(LEARNER, BANDIT, theta, BANDIT.draw(KEY), KEY)
    with pytest.raises(ValueError, match="capacity of 2"):
        LEARNER.extend(theta, trial.w, Examples(trial.rows, trial.actions, trial.mask))
