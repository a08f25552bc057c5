"""Random processes, what is best in them, and a planner that counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import Examples
from jaxmeta.acting import (
    MDP,
    actor_critic,
    actor_critic_objective,
    environment_tasks,
    optimal_values,
    planner,
    play,
    random_mdp,
)

KEY = jax.random.key(0)
STATES, ACTIONS, EPISODES, HORIZON = 4, 3, 3, 5
PROCESS = random_mdp(states=STATES, actions=ACTIONS, episodes=EPISODES, horizon=HORIZON)
PLANNER = planner(states=STATES, actions=ACTIONS, horizon=HORIZON)


@pytest.fixture(scope="module")
def theta():
    return PLANNER.init(jax.random.key(1), environment_tasks(PROCESS)(KEY))


@pytest.fixture(scope="module")
def trial(theta):
    params = PROCESS.draw(jax.random.key(2))
    return params, play(PLANNER, PROCESS, theta, params, jax.random.key(3))


def test_draws_are_of_the_prior():
    params = jax.vmap(PROCESS.draw)(jax.random.split(KEY, 2000))
    np.testing.assert_allclose(params.transitions.sum(axis=-1), 1.0, rtol=1e-5)
    # Each share of Dirichlet(1, 1, 1, 1) has the mean 1/4 and the variance 3/80.
    np.testing.assert_allclose(params.transitions.mean(axis=(0, 1, 2)), 0.25, atol=0.01)
    np.testing.assert_allclose(params.transitions.var(), 3 / 80, atol=0.002)
    np.testing.assert_allclose([params.means.mean(), params.means.std()], 1.0, atol=0.03)


def test_episodes_begin_anew_and_the_trial_ends():
    params = PROCESS.draw(KEY)
    obs, state = PROCESS.reset(KEY, params)
    ends, begins = [], []
    for n in range(EPISODES * HORIZON):
        assert obs.shape == (STATES + HORIZON + 2,)
        left = int(obs[STATES : STATES + HORIZON].argmax()) + 1
        assert left == HORIZON - n % HORIZON
        np.testing.assert_allclose(obs[-2], (EPISODES - 1 - n // HORIZON) / EPISODES, rtol=1e-6)
        if left == HORIZON:
            begins.append(int(obs[:STATES].argmax()))
        obs, state, _, done = PROCESS.step(jax.random.key(n), state, n % ACTIONS, params)
        ends.append(bool(done))
    assert begins == [0] * EPISODES
    assert ends == [False] * (EPISODES * HORIZON - 1) + [True]


def test_steps_follow_the_process():
    params = PROCESS.draw(KEY)
    _, state = PROCESS.reset(KEY, params)
    step = jax.vmap(lambda key: PROCESS.step(key, state, 1, params))
    obs, _, rewards, _ = step(jax.random.split(KEY, 20_000))
    np.testing.assert_allclose(obs[:, :STATES].mean(axis=0), params.transitions[0, 1], atol=0.015)
    np.testing.assert_allclose(rewards.mean(), params.means[0, 1], atol=0.03)
    np.testing.assert_allclose(rewards.std(), 1.0, atol=0.03)
    assert PROCESS.expected_reward(state, 1, params) == params.means[0, 1]


def by_all_policies(params, horizon, state):
    """The best return by going through all that can be done."""
    if horizon == 0:
        return 0.0
    after = [by_all_policies(params, horizon - 1, s) for s in range(STATES)]
    return max(
        float(params.means[state, a]) + float(np.asarray(params.transitions[state, a]) @ after)
        for a in range(ACTIONS)
    )


def test_optimal_values_and_the_best_action():
    params = PROCESS.draw(jax.random.key(5))
    values = optimal_values(params, 3)
    want = [[by_all_policies(params, left, s) for s in range(STATES)] for left in range(4)]
    np.testing.assert_allclose(values, want, rtol=1e-5, atol=1e-6)
    _, state = PROCESS.reset(KEY, params)
    state = state._replace(time=jnp.int32(HORIZON - 3), where=jnp.int32(2))
    q = np.asarray(params.means + params.transitions @ values[2])[2]
    assert int(PROCESS.best_action(state, params)) == int(q.argmax())


def test_the_planner_counts_what_happened(trial):
    _, trial = trial
    where = np.asarray(trial.rows[:, :STATES]).argmax(axis=1)
    visits, rewards = np.zeros((2, STATES, ACTIONS))
    transitions = np.zeros((STATES, ACTIONS, STATES))
    for n, (s, a) in enumerate(zip(where, np.asarray(trial.actions), strict=True)):
        visits[s, a] += 1
        rewards[s, a] += trial.rewards[n]
        if (n + 1) % HORIZON:
            transitions[s, a, where[n + 1]] += 1
    np.testing.assert_array_equal(trial.w.visits, visits)
    np.testing.assert_allclose(trial.w.rewards, rewards, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(trial.w.transitions, transitions)


def test_the_planner_is_value_iteration_with_a_bonus(theta, trial):
    """In NumPy, with a bonus that is the same everywhere."""
    _, trial = trial
    *_, last = theta["bonus"]
    flat = {"kernel": jnp.zeros_like(last["kernel"]), "bias": jnp.array([0.7])}
    theta = theta | {"bonus": [*theta["bonus"][:-1], flat], "log_alpha": jnp.log(0.5)}
    w = jax.tree.map(np.asarray, trial.w)
    alpha = 0.5 + w.transitions
    chances = alpha / alpha.sum(axis=-1, keepdims=True)
    means = (1.0 + w.rewards) / (1.0 + w.visits) + 0.7 / np.sqrt(1.0 + w.visits)
    values = np.zeros(STATES)
    for left in range(1, HORIZON + 1):
        q = means + chances @ values
        values = q.max(axis=1)
        if left == HORIZON:  # an episode begins: no step is pending
            x = np.zeros((2, STATES + HORIZON + 3), np.float32)
            x[[0, 1], [0, 3]] = x[:, STATES + left - 1] = 1.0
            z = PLANNER.predict(theta, trial.w, jnp.asarray(x))
            scale = np.exp(theta["log_scale"])
            np.testing.assert_allclose(z, scale * q[[0, 3]], rtol=1e-4, atol=1e-4)


def test_the_planner_extends_and_pads_exactly(theta, trial):
    _, trial = trial
    rows = Examples(trial.rows, trial.actions, jnp.ones(len(trial.actions)))
    whole = PLANNER.adapt(theta, rows)
    w = PLANNER.adapt(theta, jax.tree.map(lambda leaf: leaf[:4], rows))
    for n in range(4, len(rows.y)):
        w = PLANNER.extend(theta, w, jax.tree.map(lambda leaf, n=n: leaf[n : n + 1], rows))
    padded = Examples(
        jnp.concatenate([rows.x, jnp.full((2, rows.x.shape[1]), jnp.nan)]),
        jnp.append(rows.y, jnp.array([-1, -1], rows.y.dtype)),
        jnp.append(rows.mask, jnp.zeros(2)),
    )
    for other in (w, PLANNER.adapt(theta, padded), trial.w):
        for got, want in zip(jax.tree.leaves(other), jax.tree.leaves(whole), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_a_planner_that_knows_everything_acts_best(theta):
    params = PROCESS.draw(jax.random.key(7))
    many = 1e6 * jnp.ones((STATES, ACTIONS))
    w = PLANNER.adapt(
        theta, Examples(jnp.zeros((1, STATES + HORIZON + 3)), jnp.zeros(1, int), jnp.zeros(1))
    )._replace(transitions=1e6 * params.transitions, rewards=1e6 * params.means, visits=many)
    obs, state = PROCESS.reset(KEY, params)
    for where in range(STATES):
        here = state._replace(where=jnp.int32(where))
        x = jnp.append(obs.at[:STATES].set(jax.nn.one_hot(where, STATES)), 0.0)
        z = PLANNER.predict(theta, w, x[None])
        assert int(z.argmax()) == int(PROCESS.best_action(here, params))


def test_planning_is_trained_by_policy_gradient():
    learner = actor_critic(PLANNER, PROCESS)
    task = environment_tasks(PROCESS)(KEY)
    theta = learner.init(jax.random.key(1), task)
    objective = actor_critic_objective(learner, PROCESS)
    found = jax.jit(jax.grad(lambda theta: objective(theta, task, KEY)[0]))(theta)
    sizes = [float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(found.learner)]
    assert np.isfinite(sizes).all() and min(sizes) > 0


def test_what_cannot_be_planned_is_refused(theta):
    with pytest.raises(ValueError, match="reads rows of 4 states"):
        PLANNER.predict(theta, None, jnp.zeros((1, 3)))
    rows = Examples(jnp.zeros((1, STATES + HORIZON + 3)), jnp.zeros(1, int), jnp.zeros(1))
    with pytest.raises(ValueError, match="which of 3 classes"):
        PLANNER.adapt(theta, rows, description=jnp.ones(1))
    with pytest.raises(ValueError, match="states must be 1"):
        planner(states=0, actions=2, horizon=3)
    with pytest.raises(ValueError, match="episodes must be 1"):
        random_mdp(episodes=0)
    assert MDP._fields == ("transitions", "means")
