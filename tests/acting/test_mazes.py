"""Mazes, the ways through them, and classes that are no longer interchangeable."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import Examples, Task, learners, networks
from jaxmeta.acting import MOVES, ROOMS, maze

KEY = jax.random.key(0)
WALLS = ("..#", "#..", "...")
FREE = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]


def cell_of(obs):
    return FREE[int(obs[: len(FREE)].argmax())]


def test_moves_stop_at_walls_and_borders():
    rooms = maze(WALLS, horizon=50)
    params = rooms.draw(KEY)._replace(goal=jnp.int32(len(FREE)))  # nowhere
    obs, state = rooms.reset(KEY, params)
    rng, at = np.random.default_rng(0), (0, 0)
    for _ in range(40):
        action = int(rng.integers(4))
        obs, state, reward, _ = rooms.step(KEY, state, action, params)
        to = tuple(np.add(at, MOVES[action]).tolist())
        at = to if to in FREE else at
        assert cell_of(obs) == at
        assert float(reward) == pytest.approx(-0.01)


def test_an_episode_ends_at_the_goal_or_by_time():
    rooms = maze(WALLS, episodes=2, horizon=4, nearest=2)
    params = rooms.draw(KEY)._replace(goal=jnp.int32(2))
    obs, state = rooms.reset(KEY, params)
    found = []
    for action in (3, 1, 0, 0, 0, 0):  # right, down: there; then four times into the wall
        obs, state, reward, done = rooms.step(KEY, state, action, params)
        found.append((cell_of(obs), round(float(reward), 3), bool(done)))
    assert found[0] == ((0, 1), -0.125, False)
    assert found[1] == ((0, 0), 0.875, False)
    assert found[-1] == ((0, 0), -0.125, True)
    assert [done for *_, done in found] == [False] * 5 + [True]


@pytest.mark.parametrize("walls", [WALLS, ROOMS], ids=["small", "rooms"])
def test_the_best_actions_lead_to_the_goal(walls):
    rooms = maze(walls, horizon=100, nearest=3)
    for seed in range(5):
        params = rooms.draw(jax.random.key(seed))
        _, state = rooms.reset(KEY, params)
        rewards = []
        while not rewards or rewards[-1] < 0:
            action = rooms.best_action(state, params)
            _, state, reward, _ = rooms.step(KEY, state, action, params)
            rewards.append(float(reward))
            assert len(rewards) < 30
        assert len(rewards) >= 3
        assert int(rooms.hints(params).argmax()) == int(params.goal)


def test_mazes_that_are_none_are_refused():
    for walls, said in ((("..", "."), "one length"), (("##",), "no free"), (("..",), "No cell")):
        with pytest.raises(ValueError, match=said):
            maze(walls)
    with pytest.raises(ValueError, match="horizon must be 1"):
        maze(horizon=0)


def test_directions_are_told_apart_before_any_row():
    """What `exchangeable=False` is for."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
    rows = Examples(x, jnp.arange(4), jnp.ones(4))
    for exchangeable in (True, False):
        learner = learners.recurrent(networks.identity(), ways=4, size=6, exchangeable=exchangeable)
        theta = learner.init(jax.random.key(1), Task(rows, rows))
        theta["out"]["kernel"] = theta["out"]["kernel"] * 1e4
        w = learner.adapt(theta, rows._replace(mask=jnp.zeros(4)))
        spread = float(np.ptp(learner.predict(theta, w, x), axis=1).max())
        assert (spread < 1e-6) == exchangeable
        whole = learner.adapt(theta, rows)
        part = learner.adapt(theta, jax.tree.map(lambda leaf: leaf[:2], rows))
        rest = learner.extend(theta, part, jax.tree.map(lambda leaf: leaf[2:], rows))
        np.testing.assert_allclose(rest.state, whole.state, rtol=1e-5, atol=1e-6)
