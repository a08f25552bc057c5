"""The experiment with processes and mazes at toy size, and the rivals in it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import mdps
from experiments.acting import mazes, planning, ppo
from jaxmeta.acting import maze, optimal_values, play, random_mdp

TINY = ["--steps", "2", "--tasks-per-step", "4"]


@pytest.mark.slow
def test_mdps_writes_the_contract_and_goes_on(tmp_path, capsys):
    flags = [*TINY, "--episodes", "2", "--size", "4", "--eval-tasks", "16", "--out", str(tmp_path)]
    flags += ["--learner", "planner", "rl2"]
    assert mdps.main(flags) == 0
    rows = json.loads((tmp_path / "result.json").read_text())["results"]
    names = {row["name"] for row in rows}
    assert {"planner", "rl2", "psrl", "posterior_bonus", "ucrl_each_step", "random"} <= names
    for row in rows:
        assert 0 < row["reward"] < 1.2 and row["ci95"] > 0 and row["num_tasks"] == 16
    assert "share of the best" in capsys.readouterr().out
    for name in ("regret.png", "trial.png"):
        assert (tmp_path / name).stat().st_size > 1000
    assert mdps.main([*flags[:-1], "--resume", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["results"]
    assert again[0]["reward"] == rows[0]["reward"]


@pytest.mark.slow
def test_the_maze_writes_the_contract(tmp_path, monkeypatch):
    monkeypatch.setattr(mazes, "PPO_EPISODES", (20,))
    flags = [*TINY, "--maze", "--eval-tasks", "5", "--out", str(tmp_path)]
    assert mdps.main(flags) == 0
    rows = json.loads((tmp_path / "result.json").read_text())["results"]
    assert [row["name"] for row in rows] == ["rl2", "ppo_20"]
    for row in rows:
        assert 0 <= row["reward"] <= 1 and 0 <= row["episode_2"] <= 1
    assert (tmp_path / "trial.png").stat().st_size > 1000


def drawn(count, episodes, seed=0):
    tasks = jax.vmap(random_mdp(states=10, actions=5).draw)(
        jax.random.split(jax.random.key(seed), count)
    )
    return tasks, mdps.with_luck(tasks, episodes * mdps.HORIZON, np.random.default_rng(seed))


def test_best_actions_are_those_of_value_iteration():
    tasks, processes = drawn(6, 1)
    belief = planning.Belief(processes.chances, processes.means)
    actions = planning.best_actions(belief, 3)
    values = jax.vmap(lambda task: optimal_values(task, 3))(tasks)
    q = np.asarray(tasks.means + jnp.einsum("tsaz,tz->tsa", tasks.transitions, values[:, 2]))
    np.testing.assert_array_equal(actions[3], q.argmax(axis=-1))
    with_none = planning.best_actions(belief._replace(slack=np.zeros_like(belief.means)), 3)
    np.testing.assert_array_equal(with_none, actions)


def test_hope_moves_chances_to_the_best_states():
    chances = np.array([[[[0.5, 0.3, 0.2]]]])
    belief = planning.Belief(chances, np.zeros((1, 1, 1)), np.full((1, 1, 1), 0.4))
    hoped = planning._hoped(belief, np.array([[1.0, 3.0, 2.0]]))
    np.testing.assert_allclose(hoped, 0.3 * 1.0 + 0.5 * 3.0 + 0.2 * 2.0)
    hoped = planning._hoped(belief._replace(slack=np.full((1, 1, 1), 9.0)), np.array([[1.0, 3, 2]]))
    np.testing.assert_allclose(hoped, 3.0)


def test_rivals_count_and_earn_what_the_process_pays():
    """A policy without chance in it, beside a loop over one process."""
    _, processes = drawn(4, 3)
    got = planning.rewards_of(
        planning.posterior_mean, processes, np.random.default_rng(0), every_step=False
    )
    for n in range(4):
        visits, rewards = np.zeros((10, 5)), np.zeros((10, 5))
        transitions, where, plan = np.zeros((10, 5, 10)), 0, None
        for t in range(30):
            left = 10 - t % 10
            if left == 10:
                where = 0
                alpha = 1.0 + transitions
                known = alpha / alpha.sum(axis=-1, keepdims=True)
                belief = planning.Belief(known[None], ((1 + rewards) / (1 + visits))[None])
                plan = planning.best_actions(belief, 10)[:, 0]
            action = plan[left, where]
            reward = processes.means[n, where, action] + processes.noise[n, t]
            ladder = processes.chances[n, where, action].cumsum()
            after = min(int((processes.draws[n, t] > ladder).sum()), 9)
            visits[where, action] += 1
            rewards[where, action] += reward
            if left > 1:
                transitions[where, action, after] += 1
            assert got[n, t] == pytest.approx(reward)
            where = after


def test_rivals_are_on_the_scale_that_was_published():
    """Random and PSRL, over 300 processes of ten episodes: 0.457 and 0.613."""
    tasks, processes = drawn(300, 10)
    best = np.asarray(jax.vmap(lambda task: optimal_values(task, 10)[10, 0])(tasks)) * 10
    for believe, want in ((None, 0.457), (planning.psrl, 0.613)):
        rng = np.random.default_rng(1)
        earned = planning.rewards_of(believe, processes, rng, every_step=False).sum(axis=1)
        assert (earned / best).mean() == pytest.approx(want, abs=0.02)


def test_ppo_finds_a_goal_that_is_near():
    walls = ["...", ".#.", "..."]
    rooms = maze(walls, episodes=10, horizon=12)
    params = rooms.draw(jax.random.key(0))
    theta = jax.jit(lambda key: ppo.ppo(rooms, 8, params, key, iterations=30, rate=0.1))(
        jax.random.key(1)
    )
    policy = ppo.table_policy(8, 4)
    judge = jax.jit(lambda key: play(policy, rooms, theta, params, key).rewards)
    rewards = judge(jax.random.key(2))
    assert int((rewards > 0).sum()) >= 9
    before = play(policy, rooms, ppo.table(8, 4), params, jax.random.key(2))
    assert float(rewards.sum()) > float(before.rewards.sum())


def test_successes_are_told_by_episode():
    rooms = maze(episodes=2, horizon=30, nearest=8)
    params = rooms.draw(jax.random.key(0))
    policy = ppo.table_policy(53, 4)
    obs, state = rooms.reset(jax.random.key(0), params)
    rows, rewards, done = [], [], False
    while not done:
        rows.append(np.append(obs, 0.0))
        late = int(state.episode) == 1  # the best way in the second episode alone
        action = rooms.best_action(state, params) if late else 0
        obs, state, reward, done = rooms.step(jax.random.key(0), state, action, params)
        rewards.append(float(reward))
    found = mazes.successes(np.array([rows]), [rewards], np.ones((1, len(rows))))
    np.testing.assert_array_equal(found, [[False, True]])
    assert policy.extend is not None
