"""Learners that have met many random processes, against planners that know the prior.

Claim: a planner whose bonus for the unknown was learned from trials earns more in new processes
  than planning before each episode with the mean of the posterior and a tuned bonus.
Command: python -m experiments.mdps
Expected: the tables in experiments/acting/RESULTS.md.
Time: five minutes on 2 CPU cores.

More:
  python -m experiments.mdps --episodes 25 --learner planner rl2 --out DIR
  python -m experiments.mdps --maze --out DIR          # a goal in a maze, against PPO from scratch
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.acting import mazes, planning, plots
from experiments.acting.actors import (
    Actor,
    Outer,
    Trained,
    as_table,
    by_policy_gradient,
    row_of,
    train,
    trials_of,
    write,
)
from experiments.common.command_line import flag, in_a_sentence, parse
from experiments.common.placement import Devices, device_flags, start
from experiments.common.run import begin
from experiments.common.training_loop import cache_compilations
from jaxmeta import learners, networks, sparsity
from jaxmeta.acting import MDP, Environment, Trial, optimal_values, planner, random_mdp

Name = Literal["planner", "rl2"]
STATES, ACTIONS, HORIZON = 10, 5, 10
STEPS = {"planner": 200, "rl2": 600}


@dataclass(frozen=True)
class Options:
    """The command line."""

    episodes: int = 10
    learner: tuple[Name, ...] = ("planner",)
    maze: bool = flag(False, "a maze of two episodes a trial in place of random processes")
    outer: Outer = flag(Outer(tasks_per_step=128), "outer loop; planner 200 steps, rl2 600")
    size: int = flag(48, "of rl2's memory of an action")
    eval_tasks: int = flag(2000, "processes or goals to judge on")
    seed: int = 0
    resume: bool = flag(False, "go on from the state in --out")
    json: bool = flag(False, "print result.json to standard output")
    out: Path = flag(Path("runs/mdps"), "folder for all that is written")
    placement: Devices = device_flags()


def actor_of(name: str, environment: Environment, options: Options) -> tuple[Actor, Outer]:
    """A learner and what it is trained on, and the flags of its outer loop."""
    outer = options.outer.of(STEPS[name])
    if name == "planner":
        learner = planner(states=STATES, actions=ACTIONS, horizon=HORIZON)
        # Chance in its actions would explore in place of the bonus, and unlearn that.
        actor = by_policy_gradient(learner, environment, outer, decay=0.99, entropy=0.0)
        return actor, outer
    learner = learners.recurrent(networks.identity(), ways=ACTIONS, size=options.size)
    return by_policy_gradient(learner, environment, outer, decay=0.99), outer


class Judged(NamedTuple):
    """Rewards `[T, N]` by policy, the optimum a step `[T]`, and what else is known of each."""

    rewards: dict[str, np.ndarray]
    best: np.ndarray
    known: dict[str, dict[str, Any]]
    trials: Trial


def judge(trained: dict[str, Trained], environment: Environment, options: Options) -> Judged:
    """All policies on the same processes."""
    task_key, play_key, tune_key = jax.random.split(jax.random.key(options.seed + 1), 3)
    tasks = jax.vmap(environment.draw)(jax.random.split(task_key, options.eval_tasks))
    found, known, trials = {}, {}, {}
    for name, each in trained.items():
        trials[name], speed = trials_of(each, environment, tasks, play_key)
        found[name] = np.asarray(trials[name].rewards)
        density = float(sparsity.density(trials[name].w))
        known[name] = {"steps_per_second": speed, "density": density}
    rng = np.random.default_rng(options.seed)
    processes = with_luck(tasks, environment.num_steps, rng)
    others = jax.vmap(environment.draw)(jax.random.split(tune_key, options.eval_tasks // 8 + 1))
    others = with_luck(others, environment.num_steps, rng)
    found["random"] = planning.rewards_of(None, processes, rng, every_step=False)
    for every_step in (False, True):
        for name in (*planning.FIXED, *planning.TUNED):
            believe, weight = planning.FIXED.get(name), None
            if believe is None:
                believe, weight = planning.tuned(name, others, rng, every_step=every_step)
            begun = time.perf_counter()
            said = f"{name}_each_step" if every_step else name
            found[said] = planning.rewards_of(believe, processes, rng, every_step=every_step)
            speed = found[said].size / (time.perf_counter() - begun)
            known[said] = {"weight": weight, "steps_per_second": speed}
    values = jax.jit(jax.vmap(lambda task: optimal_values(task, HORIZON)[HORIZON, 0]))(tasks)
    return Judged(found, np.asarray(values) / HORIZON, known, next(iter(trials.values())))


def with_luck(tasks: MDP, num_steps: int, rng: np.random.Generator) -> planning.Processes:
    """Processes as NumPy reads them, and the luck of each of their steps."""
    chances, means = (np.asarray(leaf, np.float64) for leaf in tasks)
    draws = rng.random((len(means), num_steps))
    return planning.Processes(chances, means, draws, rng.standard_normal(draws.shape), HORIZON)


def rows_of(judged: Judged, options: Options) -> list[dict[str, Any]]:
    """Shares of what the best policy earns that knows the process, over processes."""
    ours = next(iter(judged.rewards))
    shares = {
        name: each.mean(axis=1, dtype=np.float64) / judged.best
        for name, each in judged.rewards.items()
    }
    return [
        row_of(name, shares, ours, options.seed) | judged.known.get(name, {}) for name in shares
    ]


def as_text(rows: list[dict[str, Any]], options: Options) -> str:
    """The results as a table."""
    speeds = {row["name"]: row.get("steps_per_second") for row in rows}
    ours = rows[0]["name"]
    return (
        f"{options.episodes} episodes of {HORIZON} steps, {options.eval_tasks} unseen processes:\n"
        f"{as_table(rows, ours, 'share of the best', None)}\n"
        "The best policy knows the process. ± is over processes, the same ones for all. Policies\n"
        "plan before each episode, or before each step.\n"
        f"Steps a second: {ours} {speeds[ours]:,.0f}, posterior_bonus in a NumPy loop "
        f"{speeds['posterior_bonus']:,.0f}, planning before each step "
        f"{speeds['posterior_bonus_each_step']:,.0f}."
    )


def draw(judged: Judged, options: Options) -> None:
    """Regret against steps, and one trial's rewards."""
    regrets = {
        name: (judged.best[:, None] - each).mean(axis=0).cumsum()
        for name, each in judged.rewards.items()
        if not name.startswith(("psrl_", "optimistic_psrl_", "ucrl_"))
    }
    title = f"{options.episodes} episodes, mean over {options.eval_tasks} processes"
    plots.regret(regrets, options.out / "regret.png", title=title, unit="steps")
    trial = jax.tree.map(lambda leaf: np.asarray(leaf[0]), judged.trials)
    where = trial.rows[:, :STATES].argmax(axis=1).reshape(options.episodes, HORIZON)
    chances = np.asarray(jax.nn.softmax(jnp.asarray(trial.logits))).max(axis=1)
    plots.process_trial(
        where,
        trial.actions.reshape(where.shape),
        trial.expected.reshape(where.shape),
        chances.reshape(where.shape),
        options.out / "trial.png",
    )


@in_a_sentence
def main(arguments: list[str] | None = None) -> int:
    """Train, judge, draw, and write everything down."""
    options = parse(Options, arguments, experiment="mdps", description=__doc__)
    placement = start(options.placement)
    begin(options.out, go_on=options.resume)
    if options.maze:
        mazes.run(options, options.outer, options.eval_tasks, placement)
        placement.wait()
        return 0
    environment = random_mdp(
        states=STATES, actions=ACTIONS, episodes=options.episodes, horizon=HORIZON
    )
    sizes = {"episodes": options.episodes, "size": options.size}
    trained: dict[str, Trained] = {
        name: train(name, *actor_of(name, environment, options), options, placement, **sizes)
        for name in options.learner
    }
    if jax.process_index() == 0:
        judged = judge(trained, environment, options)
        rows = rows_of(judged, options)
        draw(judged, options)
        write(rows, trained, as_text(rows, options), options)
    placement.wait()
    return 0


if __name__ == "__main__":
    cache_compilations()
    sys.exit(main())
