"""Bandits as tasks, trials of learners that can be extended, policy gradients, the optimum."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import Examples, MetaLearner, learners, make_step, networks, scan_steps, training
from jaxmeta.acting import (
    Environment,
    actor_critic,
    actor_critic_objective,
    bernoulli_bandit,
    bernoulli_optimum,
    environment_tasks,
    gaussian_bandit,
    play,
)

KEY = jax.random.key(0)
BANDIT = bernoulli_bandit(arms=3, pulls=6)
LEARNER = learners.recurrent(networks.identity(), ways=3, size=4)


def theta_of(learner, environment):
    return learner.init(jax.random.key(1), environment_tasks(environment)(KEY))


@pytest.mark.parametrize("make", [bernoulli_bandit, gaussian_bandit])
def test_the_same_pulls_of_an_arm_pay_the_same(make):
    bandit = make(arms=3, pulls=4)
    params = bandit.draw(KEY)
    paid = []
    for arms in ((0, 1, 0, 2), (1, 0, 0, 2)):
        obs, state = bandit.reset(KEY, params)
        assert obs.shape == (2,) and float(obs[0]) == 1.0
        rewards, ends = [], []
        for n, arm in enumerate(arms):
            obs, state, reward, done = bandit.step(jax.random.key(n), state, arm, params)
            rewards.append(float(reward))
            ends.append(bool(done))
        assert ends == [False, False, False, True] and float(obs[0]) == 0.0
        paid.append(rewards)
    first, second = paid
    assert first[0] == second[1] and first[1] == second[0] and first[2:] == second[2:]


def test_rewards_have_the_means_of_the_arms():
    bandit = bernoulli_bandit(arms=4, pulls=2000)
    params = bandit.draw(KEY)
    paid = (np.asarray(params.noise) < np.asarray(params.means)[:, None]).mean(axis=1)
    np.testing.assert_allclose(paid, params.means, atol=0.04)
    _, state = bandit.reset(KEY, params)
    np.testing.assert_allclose(bandit.expected_reward(state, 2, params), params.means[2])
    best, second, mean = bandit.hints(params)
    ranked = np.sort(params.means)[::-1]
    np.testing.assert_allclose([best, second], ranked[:2])
    np.testing.assert_allclose(mean, params.means.mean(), rtol=1e-6)


def test_tasks_of_many_sizes_have_their_own_arms_and_pulls():
    bandit = bernoulli_bandit(arms=(2, 3), pulls=(2, 6))
    params = jax.vmap(bandit.draw)(jax.random.split(KEY, 200))
    assert set(params.arms.tolist()) == {2, 3} and set(params.pulls.tolist()) == {2, 3, 4, 5, 6}
    theta = theta_of(LEARNER, bandit)
    trials = jax.jit(jax.vmap(lambda p, key: play(LEARNER, bandit, theta, p, key)))(
        params, jax.random.split(KEY, 200)
    )
    np.testing.assert_array_equal(trials.mask.sum(axis=1), params.pulls)
    pulled = np.where(np.asarray(trials.mask) > 0, trials.actions, 0)
    assert (pulled.max(axis=1) < np.asarray(params.arms)).all()
    assert (np.asarray(trials.rewards)[np.asarray(trials.mask) == 0] == 0).all()
    for wrong in ({"arms": 0, "pulls": 3}, {"arms": (3, 2), "pulls": 3}):
        with pytest.raises(ValueError, match=r"arms must be 1|A range is"):
            bernoulli_bandit(**wrong)


@pytest.mark.parametrize("greedy", [True, False])
def test_actions_that_there_are_not_are_never_taken(greedy):
    """Also by a learner that does not read which there are, and likes the last one best."""
    likes = jnp.arange(3.0)
    learner = MetaLearner(
        lambda key, task: likes,
        lambda theta, support, *, description=None, key=None: jnp.zeros(()),
        lambda theta, w, x: jnp.broadcast_to(theta, (len(x), 3)),
        lambda theta, w, examples: w,
    )
    bandit = bernoulli_bandit(arms=(1, 3), pulls=6)
    params = jax.vmap(bandit.draw)(jax.random.split(KEY, 60))
    act = jax.jit(jax.vmap(lambda p, key: play(learner, bandit, likes, p, key, greedy=greedy)))
    actions = act(params, jax.random.split(KEY, 60)).actions
    assert (actions < params.arms[:, None]).all() and set(params.arms.tolist()) == {1, 2, 3}


def test_a_trial_is_what_learner_and_bandit_say_step_by_step():
    theta = theta_of(LEARNER, BANDIT)
    theta["out"]["kernel"] = theta["out"]["kernel"] * 100.0
    params = BANDIT.draw(jax.random.key(3))
    trial = jax.jit(lambda key: play(LEARNER, BANDIT, theta, params, key, greedy=True))(KEY)
    obs, state = BANDIT.reset(KEY, params)
    rows = []
    for n in range(BANDIT.num_steps):
        history = np.array(rows).reshape(len(rows), 3)
        padded = np.concatenate([history, np.zeros((6 - len(rows), 3))]).astype(np.float32)
        y = np.concatenate([np.asarray(trial.actions)[:n], np.zeros(6 - n, int)])
        known = Examples(
            jnp.asarray(padded), jnp.asarray(y), jnp.asarray(np.arange(6) < n, jnp.float32)
        )
        w = jax.jit(LEARNER.adapt)(theta, known)
        z = LEARNER.predict(theta, w, jnp.append(obs, 0.0)[None])[0]
        np.testing.assert_allclose(trial.logits[n], z, rtol=1e-4, atol=1e-5)
        assert int(trial.actions[n]) == int(z.argmax())
        seen, state, reward, _ = BANDIT.step(KEY, state, trial.actions[n], params)
        rows.append([*np.asarray(obs), float(reward)])
        obs = seen
    np.testing.assert_allclose(trial.rows, rows, rtol=1e-6)
    np.testing.assert_allclose(trial.rewards, np.array(rows)[:, 2])
    np.testing.assert_allclose(trial.expected, params.means[trial.actions], rtol=1e-6)


def test_who_cannot_be_extended_does_not_act():
    learner = learners.matching(networks.identity(), ways=3)
    for build in (
        lambda: play(learner, BANDIT, {}, BANDIT.draw(KEY), KEY),
        lambda: actor_critic(learner, BANDIT),
    ):
        with pytest.raises(ValueError, match="has extend"):
            build()
    objective = actor_critic_objective(actor_critic(LEARNER, BANDIT), BANDIT)
    theta = theta_of(actor_critic(LEARNER, BANDIT), BANDIT)
    with pytest.raises(ValueError, match="give it a key"):
        objective(theta, environment_tasks(BANDIT)(KEY), None)


# Policy gradients

STATELESS = MetaLearner(
    lambda key, task: jnp.array([0.3, -0.2]),
    lambda theta, support, *, description=None, key=None: jnp.zeros(()),
    lambda theta, w, x: jnp.broadcast_to(theta, (len(x), 2)),
    lambda theta, w, examples: w,
)
"""A policy that is two numbers, and remembers nothing."""


@pytest.mark.parametrize("known", [True, False], ids=["expected rewards", "drawn rewards"])
def test_the_gradient_is_that_of_the_expected_return(known):
    """In closed form: of n pulls each of which earns the mean of the arm that is drawn."""
    bandit = bernoulli_bandit(arms=2, pulls=3)
    bandit = bandit if known else bandit._replace(expected_reward=None)
    learner = actor_critic(STATELESS, bandit)
    theta = theta_of(learner, bandit)
    means = jnp.array([0.9, 0.2])
    objective = actor_critic_objective(learner, bandit, entropy=0.0, decay=1.0)

    def estimate(key):
        task = environment_tasks(bandit)(key)
        task = task._replace(description=task.description._replace(means=means))
        found = jax.grad(lambda theta: objective(theta, task, key)[0])(theta)
        return found.learner

    drawn = jax.jit(jax.vmap(estimate))(jax.random.split(KEY, 4000))
    exact = -jax.grad(lambda logits: jax.nn.softmax(logits) @ means)(theta.learner)
    off = (drawn.mean(axis=0) - exact) / (drawn.std(axis=0) / np.sqrt(4000))
    assert float(jnp.abs(off).max()) < 4.5
    assert float(jnp.abs(exact).max()) > 0.1


def test_the_objective_weighs_what_is_remembered_and_the_entropy():
    learner = actor_critic(LEARNER, BANDIT)
    theta, task = theta_of(learner, BANDIT), environment_tasks(BANDIT)(KEY)

    def loss(penalty=None, step=0, **options):
        objective = actor_critic_objective(learner, BANDIT, penalty, **options)
        return objective(theta, task, KEY, step)[0]

    plain = loss(entropy=0.0)
    weighed = loss(lambda w: jnp.ones(()) * w.state.size, eta=0.1, entropy=0.0)
    np.testing.assert_allclose(weighed - plain, 0.1 * 12, rtol=1e-5)
    unsure = loss(entropy=0.5)
    assert unsure < plain
    np.testing.assert_allclose(loss(entropy=0.5, num_steps=10, step=10), plain, rtol=1e-5)
    np.testing.assert_allclose(loss(alpha=2.0, entropy=0.0), 2.0 * plain, rtol=1e-5)
    _, metrics = actor_critic_objective(learner, BANDIT)(theta, task, KEY)
    assert 0 <= float(metrics["return"]) <= 6 and 0 <= float(metrics["density"]) <= 1


@pytest.mark.slow
def test_it_learns_to_stay_with_what_pays():
    bandit = bernoulli_bandit(arms=2, pulls=8)
    learner = actor_critic(learners.recurrent(networks.identity(), ways=2, size=8), bandit)
    objective = actor_critic_objective(learner, bandit, num_steps=150)
    tx, sampler = optax.adam(1e-2), environment_tasks(bandit)
    state = training.init(learner, tx, KEY, sampler(KEY))
    step = make_step(objective, tx, tasks_per_chunk=64)
    run = jax.jit(scan_steps(step, sampler, num_steps=150, tasks_per_step=64))
    state, metrics = run(state)
    params = jax.vmap(bandit.draw)(jax.random.split(jax.random.key(5), 3000))
    act = jax.jit(
        jax.vmap(lambda p, key: play(learner, bandit, state.theta, p, key, greedy=True).rewards)
    )
    total = float(act(params, jax.random.split(KEY, 3000)).sum(axis=1).mean())
    best = bernoulli_optimum(2, 8)  # random play earns 4
    assert total > 0.95 * best
    assert isinstance(bandit, Environment) and metrics["return"].shape == (150,)


# The optimum


@cache
def by_brute_force(arms, left):
    """Over arms in their order, without merging any."""
    if not left:
        return 0.0
    best = 0.0
    for n, (wins, losses) in enumerate(arms):
        chance = (wins + 1) / (wins + losses + 2)
        won = (*arms[:n], (wins + 1, losses), *arms[n + 1 :])
        lost = (*arms[:n], (wins, losses + 1), *arms[n + 1 :])
        earned = chance * (1 + by_brute_force(won, left - 1))
        best = max(best, earned + (1 - chance) * by_brute_force(lost, left - 1))
    return best


@pytest.mark.parametrize(("arms", "pulls"), [(1, 4), (2, 1), (2, 5), (3, 4), (4, 3)])
def test_the_optimum_is_that_of_all_policies(arms, pulls):
    want = by_brute_force(((0, 0),) * arms, pulls)
    assert bernoulli_optimum(arms, pulls) == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize(("arms", "pulls", "want"), [(5, 10, 6.660), (10, 10, 6.714)])
def test_it_is_as_published(arms, pulls, want):
    assert round(bernoulli_optimum(arms, pulls), 3) == want


@pytest.mark.slow
@pytest.mark.parametrize(("arms", "pulls", "want"), [(2, 50, 31.997), (3, 20, 13.466)])
def test_it_is_as_published_with_more_pulls(arms, pulls, want):
    assert round(bernoulli_optimum(arms, pulls), 3) == want


def test_more_states_than_can_be_gone_through_are_refused():
    with pytest.raises(ValueError, match="takes .* states"):
        bernoulli_optimum(5, 100)
