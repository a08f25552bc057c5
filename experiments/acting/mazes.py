"""A goal in a maze: a learner that has looked for many, against PPO that starts anew."""

from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.acting import plots, ppo
from experiments.acting.actors import (
    Outer,
    Settings,
    as_table,
    by_policy_gradient,
    row_of,
    train,
    trials_of,
    write,
)
from experiments.common.placement import Placement
from jaxmeta import learners, networks
from jaxmeta.acting import ROOMS, maze, play

EPISODES, HORIZON, NEAREST, BATCH = 2, 30, 8, 10
PPO_EPISODES = (20, 200, 2000)
RATES = (0.03, 0.1, 0.3)
STEPS, SIZE = 1000, 32


def run(options: Settings, outer: Outer, eval_tasks: int, placement: Placement) -> None:
    """Train `rl2`, judge both by reaching the goal in two episodes, and write everything down."""
    environment = maze(episodes=EPISODES, horizon=HORIZON, nearest=NEAREST)
    outer = outer.of(STEPS)
    learner = learners.recurrent(networks.identity(), ways=4, size=SIZE, exchangeable=False)
    actor = by_policy_gradient(learner, environment, outer, decay=0.99)
    trained = train("rl2", actor, outer, options, placement, maze=True)
    if jax.process_index() != 0:
        return
    task_key, play_key, ppo_key = jax.random.split(jax.random.key(options.seed + 1), 3)
    tasks = jax.vmap(environment.draw)(jax.random.split(task_key, eval_tasks))
    trials, speed = trials_of(trained, environment, tasks, play_key)
    found = {"rl2": successes(trials.rows, trials.rewards, trials.mask)}
    few = jax.tree.map(lambda leaf: leaf[: min(eval_tasks, 200)], tasks)
    rates = {}
    for episodes in PPO_EPISODES:
        found[f"ppo_{episodes}"], rates[f"ppo_{episodes}"] = from_scratch(few, ppo_key, episodes)
    rows = []
    for name in found:
        either = {each: np.any(won, axis=1).astype(float) for each, won in found.items()}
        row = row_of(name, either, "rl2", options.seed)
        row |= {f"episode_{n + 1}": won for n, won in enumerate(found[name].mean(axis=0))}
        rows.append(row | {"rate": rates.get(name)})
    rows[0] |= {"steps_per_second": speed}
    text = (
        f"A maze, {len(found['rl2'])} goals; PPO of so many episodes on {len(found['ppo_20'])}:\n"
        f"{as_table(rows, 'rl2', 'reaches the goal in two episodes', None)}\n"
        f"In the first and in the second episode: rl2 {rows[0]['episode_1']:.3f} and "
        f"{rows[0]['episode_2']:.3f}.\n± is over goals and the luck of training."
    )
    goals, first = jax.tree.map(lambda leaf: np.asarray(leaf[:3]), (tasks.goal, trials))
    plots.maze_trials(goals, first, ROOMS, options.out / "trial.png")
    write(rows, {"rl2": trained}, text, options)


def successes(rows: Any, rewards: Any, mask: Any) -> np.ndarray:
    """Whether each of the two episodes of each trial reached its goal, `[T, 2]`.

    Args:
      rows: what was read of each step, the share of the episodes that is left last but one.
      rewards: `[T, N]`.
      mask: `[T, N]`.
    """
    won = (np.asarray(rewards) > 0) & (np.asarray(mask) > 0)
    first = np.asarray(rows)[:, :, -2] > 1.0 - 0.5 / EPISODES
    return np.stack([(won & first).any(axis=1), (won & ~first).any(axis=1)], axis=1)


def from_scratch(tasks: Any, key: jax.Array, episodes: int) -> tuple[np.ndarray, float]:
    """Successes `[T, 2]` of PPO after so many episodes, and the best learning rate on these goals.

    The rate is chosen where it is judged, which is in PPO's favour.
    """
    batches = maze(episodes=min(BATCH, episodes), horizon=HORIZON, nearest=NEAREST)
    judged = maze(episodes=EPISODES, horizon=HORIZON, nearest=NEAREST)
    cells = sum(line.count(".") for line in ROOMS)
    policy = ppo.table_policy(cells, 4)
    best = (np.zeros((1, EPISODES), bool), RATES[0])
    for rate in RATES:
        learn = partial(ppo.ppo, batches, cells, iterations=max(1, episodes // BATCH), rate=rate)

        @jax.jit
        @jax.vmap
        def one(params: Any, key: jax.Array, learn: Any = learn) -> Any:
            learn_key, play_key = jax.random.split(key)
            return play(policy, judged, learn(params, learn_key), params, play_key)

        trials = one(tasks, jax.random.split(key, len(tasks.goal)))
        won = successes(trials.rows, trials.rewards, trials.mask)
        if won.any(axis=1).mean() >= best[0].any(axis=1).mean():
            best = won, rate
    return best
