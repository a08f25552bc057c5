"""Mazes: the walls are the same in all tasks, the goal is the task."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta._validation import check_positive
from jaxmeta.acting._environments import Environment, EpisodeState, first_state, next_state
from jaxmeta.types import Array

ROOMS = (
    "....#....",
    ".##.#.##.",
    ".#..#..#.",
    ".#.###.#.",
    ".........",
    ".#.###.#.",
    ".#..#..#.",
    ".##.#.##.",
    "....#....",
)
"""Four rooms and a hall, 53 cells, `#` being walls."""

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""The actions: up, down, left, right."""


class Maze(NamedTuple):
    """What a task is: the cell of the goal, int32 `[]`."""

    goal: Array


def maze(
    walls: Sequence[str] = ROOMS, *, episodes: int = 2, horizon: int = 30, nearest: int = 3
) -> Environment:
    """A maze to be searched for a goal that is not seen, and to be gone through again.

    A trial is some episodes with the same goal, each from the first free cell. An episode ends at
    the goal, which pays 1, or after `horizon` steps; a step costs 1 / (2 `horizon`). There are four
    actions, up, down, left and right; who runs into a wall stays. What is seen `[K + 2]`: the cell,
    one-hot; the share of the episode and the share of the episodes that is left.

    Args:
      walls: lines of one length, `#` for a wall and anything else for a free cell.
      episodes: of a trial.
      horizon: the most steps of an episode.
      nearest: the fewest steps from the start to a goal.

    Raises:
      ValueError: for lines of several lengths, a number below one, or if no cell can be a goal.

    Example:
      >>> import jax
      >>> from jaxmeta import acting
      >>> rooms = acting.maze(["..#", "#..", "..."], horizon=8)
      >>> params = rooms.draw(jax.random.key(0))
      >>> obs, state = rooms.reset(jax.random.key(1), params)
      >>> obs, state, reward, done = rooms.step(jax.random.key(2), state, 3, params)
      >>> obs.shape, round(float(reward), 4)
      ((9,), -0.0625)

    References:
      Duan et al., RL^2, arXiv:1611.02779, section 3.3; Mishra et al., A simple neural attentive
      meta-learner, arXiv:1707.03141, section 5.4.
    """
    check_positive(episodes=episodes, horizon=horizon, nearest=nearest)
    moves = _moves(walls)
    far = _distances(moves)
    goals = np.flatnonzero(np.isfinite(far[0]) & (far[0] >= nearest))
    if not len(goals):
        raise ValueError(f"No cell of this maze is {nearest} steps or more from its first one.")

    def seen(state: EpisodeState) -> Array:
        left = jnp.stack([1.0 - state.time / horizon, 1.0 - state.episode / episodes])
        return jnp.concatenate([jax.nn.one_hot(state.where, len(moves)), left])

    def reset(key: Array, params: Maze) -> tuple[Array, EpisodeState]:
        state = first_state()
        return seen(state), state

    def step(
        key: Array, state: EpisodeState, action: Array, params: Maze
    ) -> tuple[Array, EpisodeState, Array, Array]:
        where = jnp.asarray(moves, jnp.int32)[state.where, action]
        there = where == params.goal
        state = next_state(state, where, there | (state.time + 1 >= horizon))
        reward = there.astype(jnp.float32) - 0.5 / horizon
        return seen(state), state, reward, state.episode >= episodes

    def best_action(state: EpisodeState, params: Maze) -> Array:
        after = jnp.asarray(moves, jnp.int32)[state.where]
        return jnp.argmin(jnp.asarray(far)[after, params.goal])

    return Environment(
        lambda key: Maze(jax.random.choice(key, jnp.asarray(goals, jnp.int32))),
        reset,
        step,
        lambda params: jnp.ones(len(MOVES)),
        lambda params: jax.nn.one_hot(params.goal, len(moves)),
        episodes * horizon,
        best_action=best_action,
    )


def _moves(walls: Sequence[str]) -> np.ndarray:
    """The cell that each action leads to from each free cell, `[K, 4]`."""
    if not walls or len({len(line) for line in walls}) != 1:
        raise ValueError("A maze is lines of one length.")
    free = [(i, j) for i, line in enumerate(walls) for j, mark in enumerate(line) if mark != "#"]
    cells = {place: n for n, place in enumerate(free)}
    if not cells:
        raise ValueError("This maze has no free cell.")
    return np.array(
        [[cells.get((i + di, j + dj), n) for di, dj in MOVES] for (i, j), n in cells.items()]
    )


def _distances(moves: np.ndarray) -> np.ndarray:
    """The fewest steps from each cell to each `[K, K]`; infinite where none lead."""
    far = np.where(np.eye(len(moves)) > 0, 0.0, np.inf).astype(np.float32)
    for _ in moves:
        far = np.minimum(far, 1.0 + far[moves].min(axis=1))
    return far
