"""A learner that has met many bandits, against those who know the prior, and the exact optimum.

Claim: a recurrent learner trained by policy gradient earns at least 99% of what the best policy
  earns in expectation, and more than Thompson sampling, UCB1 and the greedy policy.
Command: python -m experiments.bandits
Expected: the table in experiments/acting/RESULTS.md.
Time: three minutes on 2 CPU cores.

More, of which nothing is measured yet:
  python -m experiments.bandits --arms 10 --pulls 100 --any-size --out DIR
"""

import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.acting import plots, policies
from experiments.common.command_line import as_settings, flag, in_a_sentence, parse
from experiments.common.documents import as_percent, plus_minus, report, table
from experiments.common.placement import Devices, Placement, device_flags, start
from experiments.common.run import Training, begin, run
from experiments.common.training_loop import cache_compilations, skip_faults
from jaxmeta import MetaLearner, checkpoint, learners, networks, sparsity
from jaxmeta.acting import (
    Environment,
    actor_critic,
    actor_critic_objective,
    bernoulli_bandit,
    bernoulli_optimum,
    environment_tasks,
    play,
)
from jaxmeta.evaluation import interval95


@dataclass(frozen=True)
class Options:
    """The command line."""

    arms: int = 5
    pulls: int = 10
    any_size: bool = flag(False, "train one theta for 2 arms up to --arms, 5 pulls up to --pulls")
    steps: int = flag(600, "outer steps")
    tasks_per_step: int = flag(256, "trials of an outer step")
    size: int = flag(32, "of the memory of an arm")
    learning_rate: float = 3e-3
    eta: float = flag(0.0, "weight of the L1 penalty on what is remembered")
    eval_tasks: int | None = flag(None, "bandits to judge on; default: 2 million pulls' worth")
    seed: int = 0
    resume: bool = flag(False, "go on from the state in --out")
    json: bool = flag(False, "print result.json to standard output")
    out: Path = flag(Path("runs/bandits"), "folder for all that is written")
    placement: Devices = device_flags()


def num_tasks(options: Options) -> int:
    """How many bandits all policies are judged on."""
    return options.eval_tasks or max(1000, 2_000_000 // options.pulls)


class Problem(NamedTuple):
    """Where the learner is trained, and where all are judged."""

    train: Environment
    test: Environment
    learner: MetaLearner


def problem_of(options: Options) -> Problem:
    """The bandits and the learner of a command line."""
    test = bernoulli_bandit(options.arms, options.pulls)
    train = test
    if options.any_size:
        least = min(2, options.arms), min(5, options.pulls)
        train = bernoulli_bandit((least[0], options.arms), (least[1], options.pulls))
    learner = learners.recurrent(networks.identity(), ways=options.arms, size=options.size)
    return Problem(train, test, actor_critic(learner, train))


def train_learner(problem: Problem, options: Options, placement: Placement) -> tuple[Any, float]:
    """theta, and the seconds that its training took."""
    steps = max(2, options.steps)
    schedule = optax.warmup_cosine_decay_schedule(0.0, options.learning_rate, steps // 20, steps)
    tx = skip_faults(optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule)))
    objective = actor_critic_objective(
        problem.learner, problem.train, sparsity.l1, eta=options.eta, num_steps=options.steps
    )
    settings = ("arms", "pulls", "any_size", "steps", "tasks_per_step", "size", "eta", "seed")
    state, seconds = run(
        Training(problem.learner, objective, environment_tasks(problem.train), tx),
        name="rl2",
        config={name: getattr(options, name) for name in settings},
        seed=options.seed,
        num_steps=options.steps,
        tasks_per_step=options.tasks_per_step,
        out=options.out,
        go_on=options.resume,
        placement=placement,
        tasks_per_chunk=options.tasks_per_step,
    )
    return state.theta, seconds


def judge(problem: Problem, theta: Any, options: Options) -> tuple[list[dict], dict, Any]:
    """Rows of the table, regrets by name, and the first trial of the learner."""
    environment = problem.test
    task_key, play_key, tune_key = jax.random.split(jax.random.key(options.seed + 1), 3)
    tasks = jax.vmap(environment.draw)(jax.random.split(task_key, num_tasks(options)))
    keys = jax.random.split(play_key, num_tasks(options))
    act = jax.jit(jax.vmap(partial(play, problem.learner, environment, theta, greedy=True)))
    jax.block_until_ready(act(tasks, keys))
    begun = time.perf_counter()
    trials = jax.block_until_ready(act(tasks, keys))
    speed = num_tasks(options) * options.pulls / (time.perf_counter() - begun)
    rewards, weights = {"rl2": np.asarray(trials.rewards)}, {}
    rng = np.random.default_rng(options.seed)
    played = np.asarray(tasks.means), np.asarray(tasks.noise)
    for name, index in policies.FIXED.items():
        rewards[name] = policies.rewards_of(index, *played, rng)
    others = jax.vmap(environment.draw)(jax.random.split(tune_key, len(keys) // 4 + 1))
    others = np.asarray(others.means), np.asarray(others.noise)
    for name in policies.TUNED:
        index, weights[name] = policies.tuned(name, *others, rng)
        begun = time.perf_counter()
        rewards[name] = policies.rewards_of(index, *played, rng)
    loop = len(keys) * options.pulls / (time.perf_counter() - begun)
    rows = [row_of(name, rewards, options) for name in rewards]
    rows[0] |= {"steps_per_second": speed, "density": float(sparsity.density(trials.w))}
    rows[-1] |= {"steps_per_second": loop}
    for row in rows:
        row["weight"] = weights.get(row["name"])
    rows += optimum_rows(options)
    best = np.asarray(tasks.means).max(axis=1)[:, None]
    regrets = {name: (best - each).mean(axis=0).cumsum() for name, each in rewards.items()}
    return rows, regrets, jax.tree.map(lambda leaf: np.asarray(leaf[0]), (tasks, trials))


def row_of(name: str, rewards: dict[str, np.ndarray], options: Options) -> dict[str, Any]:
    """A policy's mean total reward, and what the learner earns more than it on the same tasks."""
    totals = rewards[name].sum(axis=1, dtype=np.float64)
    more = rewards["rl2"].sum(axis=1, dtype=np.float64) - totals
    row = {"name": name, "reward": totals.mean(), "ci95": interval95(totals)}
    row |= {"rl2_more": more.mean(), "rl2_more_ci95": interval95(more)}
    return row | {"num_tasks": len(totals), "seed": options.seed}


def optimum_rows(options: Options) -> list[dict[str, Any]]:
    """The exact optimum in expectation, where it can be had."""
    try:
        best = bernoulli_optimum(options.arms, options.pulls)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return []
    return [{"name": "optimum", "reward": best, "ci95": 0.0, "num_tasks": None, "seed": None}]


def as_text(rows: list[dict[str, Any]], options: Options) -> str:
    """The results as a table."""
    best = next((row["reward"] for row in rows if row["name"] == "optimum"), None)
    cells = [
        {
            "policy": row["name"],
            "total reward": plus_minus(row["reward"], row["ci95"], scale=1.0, digits=3),
            "of the optimum %": as_percent(row["reward"] / best, digits=1) if best else "-",
            "rl2 earns more": plus_minus(row["rl2_more"], row["rl2_more_ci95"], scale=1.0, digits=3)
            if "rl2_more" in row and row["name"] != "rl2"
            else "",
        }
        for row in rows
    ]
    speed = {row["name"]: row.get("steps_per_second") for row in rows}
    return (
        f"{options.arms} arms, {options.pulls} pulls, {num_tasks(options)} unseen bandits:\n"
        f"{table(cells)}\n± is over bandits; differences are on the same ones and the same luck.\n"
        f"Steps a second: rl2 {speed['rl2']:,.0f}, the last policy in a NumPy loop "
        f"{speed['posterior_bonus']:,.0f}."
    )


@in_a_sentence
def main(arguments: list[str] | None = None) -> int:
    """Train, judge, draw, and write everything down."""
    options = parse(Options, arguments, experiment="bandits", description=__doc__)
    placement = start(options.placement)
    begin(options.out, go_on=options.resume)
    problem = problem_of(options)
    theta, seconds = train_learner(problem, options, placement)
    if jax.process_index() == 0:
        rows, regrets, (task, trial) = judge(problem, theta, options)
        rows[0]["seconds"] = seconds
        title = f"{options.arms} arms, mean over {num_tasks(options)} bandits"
        plots.regret(regrets, options.out / "regret.png", title=title)
        chances = np.asarray(jax.nn.softmax(jnp.asarray(trial.logits)))
        path = options.out / "trial.png"
        plots.one_trial(task.means, trial.actions, trial.rewards, chances, path)
        document = {"config": as_settings(options), "results": rows}
        document["versions"] = checkpoint.versions()
        text = as_text(rows, options)
        report(document, text, path=options.out / "result.json", as_json=options.json)
    placement.wait()
    return 0


if __name__ == "__main__":
    cache_compilations()
    sys.exit(main())
