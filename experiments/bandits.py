"""Learners that have met many bandits, against those who know the prior, and the exact optimum.

Claim: a recurrent learner trained by policy gradient earns at least 99% of what the best policy
  earns in expectation, and more than Thompson sampling, UCB1 and the greedy policy.
Command: python -m experiments.bandits
Expected: the table in experiments/acting/RESULTS.md.
Time: four minutes on 2 CPU cores; of 100 pulls a quarter of an hour.

More:
  python -m experiments.bandits --arms 10 --pulls 100 --any-size --out DIR
"""

import dataclasses
import itertools
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.acting import plots, policies
from experiments.acting.actors import (
    Actor,
    Outer,
    Trained,
    as_table,
    by_policy_gradient,
    by_supervision,
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
from jaxmeta.acting import (
    Bandit,
    Environment,
    Trial,
    bernoulli_bandit,
    bernoulli_optimum,
    reinforce,
)

Name = Literal["rl2", "dpt", "maml"]
SIZES = ((5, 10), (10, 10), (5, 100), (10, 100))
"""Arms and pulls that a theta for any size is judged on, as far as it goes, beside its own."""
FEW_PULLS = 20
"""Up to so many, little training is enough, and histories are short enough for a transformer."""


@dataclass(frozen=True)
class Options:
    """The command line."""

    arms: int = 5
    pulls: int = 10
    learner: tuple[Name, ...] | None = flag(
        None, f"default: all, of more than {FEW_PULLS} pulls or any size rl2"
    )
    any_size: bool = flag(False, "train one theta for 2 arms up to --arms, 5 pulls up to --pulls")
    outer: Outer = flag(Outer(), "outer loop; rl2 of few pulls 600 steps, else 1,800")
    size: int = flag(32, "of the memory of an arm")
    eval_tasks: int | None = flag(None, "bandits to judge on; default: 2 million pulls' worth")
    seed: int = 0
    resume: bool = flag(False, "go on from the state in --out")
    json: bool = flag(False, "print result.json to standard output")
    out: Path = flag(Path("runs/bandits"), "folder for all that is written")
    placement: Devices = device_flags()


def with_defaults(options: Options) -> Options:
    """The options with what depends on the number of pulls."""
    few = options.pulls <= FEW_PULLS and not options.any_size
    return dataclasses.replace(
        options,
        learner=options.learner or (("rl2", "dpt", "maml") if few else ("rl2",)),
        eval_tasks=options.eval_tasks or max(1000, 2_000_000 // options.pulls),
    )


def environments(options: Options) -> tuple[Environment, Environment]:
    """Where the learners are trained, and where all are judged."""
    test = bernoulli_bandit(options.arms, options.pulls)
    if not options.any_size:
        return test, test
    least = min(2, options.arms), min(5, options.pulls)
    return bernoulli_bandit((least[0], options.arms), (least[1], options.pulls)), test


def actor_of(name: str, environment: Environment, options: Options) -> tuple[Actor, Outer]:
    """A learner and what it is trained on, and the flags of its outer loop."""
    few = options.pulls <= FEW_PULLS and not options.any_size
    outer = options.outer.of(600 if few and name == "rl2" else 1800)
    if name == "rl2":
        learner = learners.recurrent(networks.identity(), ways=options.arms, size=options.size)
        return by_policy_gradient(learner, environment, outer), outer
    if name == "maml":
        steps = environment.num_steps
        learner = reinforce(networks.identity(), ways=options.arms, num_steps=steps, rate=10.0)
        return by_policy_gradient(learner, environment, outer, greedy=False), outer
    learner = learners.in_context(
        networks.identity(), size=32, ways=options.arms, capacity=options.arms + options.pulls
    )
    return by_supervision(learner, environment, outer), outer


def sizes_of(options: Options) -> list[tuple[int, int]]:
    """Arms and pulls to judge on, the options' own first."""
    own = (options.arms, options.pulls)
    smaller = [size for size in SIZES if size[0] <= own[0] and size[1] <= own[1] and size != own]
    return [own, *(smaller if options.any_size else ())]


class Judged(NamedTuple):
    """Rewards `[T, N]` by policy, what else is known of each, and the first learner's trials."""

    arms: int
    pulls: int
    rewards: dict[str, np.ndarray]
    known: dict[str, dict[str, Any]]
    trials: Trial
    tasks: Any


def judge(
    trained: dict[str, Trained], test: Environment, options: Options, size: tuple[int, int]
) -> Judged:
    """All policies on the same bandits of one size, with the same luck."""
    arms, pulls = size
    assert options.eval_tasks is not None
    task_key, play_key, tune_key = jax.random.split(jax.random.key(options.seed + 1), 3)

    def drawn(key: jax.Array, count: int) -> tuple[Bandit, tuple[np.ndarray, np.ndarray]]:
        """Bandits, and what policies see of them."""
        tasks = jax.vmap(test.draw)(jax.random.split(key, count))
        tasks = tasks._replace(
            arms=jnp.full_like(tasks.arms, arms), pulls=jnp.full_like(tasks.pulls, pulls)
        )
        known = np.asarray(tasks.means)[:, :arms], np.asarray(tasks.noise)[:, :arms, :pulls]
        return tasks, known

    tasks, played = drawn(task_key, options.eval_tasks)
    found, known, trials = {}, {}, {}
    for name, each in trained.items():
        # The others read the whole history before each pull.
        many = options.eval_tasks if name == "rl2" else min(options.eval_tasks, 20_000)
        part = jax.tree.map(lambda leaf, many=many: leaf[:many], tasks)
        trials[name], speed = trials_of(each, test, part, play_key)
        found[name] = np.asarray(trials[name].rewards)[:, :pulls]
        density = float(sparsity.density(trials[name].w))
        known[name] = {"steps_per_second": speed, "density": density}
    rng = np.random.default_rng(options.seed)
    for name, index in policies.FIXED.items():
        found[name] = policies.rewards_of(index, *played, rng)
    _, others = drawn(tune_key, options.eval_tasks // 4 + 1)
    for name in policies.TUNED:
        index, weight = policies.tuned(name, *others, rng)
        begun = time.perf_counter()
        found[name] = policies.rewards_of(index, *played, rng)
        speed = found[name].size / (time.perf_counter() - begun)
        known[name] = {"weight": weight, "steps_per_second": speed}
    return Judged(arms, pulls, found, known, next(iter(trials.values())), tasks)


def rows_of(judged: Judged, options: Options) -> list[dict[str, Any]]:
    """The rows of the table, the exact optimum in expectation last, where it can be had."""
    ours = next(iter(judged.rewards))
    totals = {name: each.sum(axis=1, dtype=np.float64) for name, each in judged.rewards.items()}
    rows = [
        row_of(name, totals, ours, options.seed) | judged.known.get(name, {}) for name in totals
    ]
    try:
        best = bernoulli_optimum(judged.arms, judged.pulls)
        unknown = {"ci95": 0.0, "num_tasks": None, "seed": None}
        rows.append({"name": "optimum", "reward": best} | unknown)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
    return [row | {"arms": judged.arms, "pulls": judged.pulls} for row in rows]


def as_text(rows: list[dict[str, Any]], options: Options) -> str:
    """The results as a table."""
    best = next((row["reward"] for row in rows if row["name"] == "optimum"), None)
    speeds = {row["name"]: row.get("steps_per_second") for row in rows}
    ours = rows[0]["name"]
    return (
        f"{rows[0]['arms']} arms, {rows[0]['pulls']} pulls, {options.eval_tasks} unseen bandits:\n"
        f"{as_table(rows, ours, 'total reward', best)}\n"
        "± is over bandits; differences are on the same ones and the same luck.\n"
        f"Steps a second: {ours} {speeds[ours]:,.0f}, the last policy in a NumPy loop "
        f"{speeds['posterior_bonus']:,.0f}."
    )


def draw(judged: Judged, options: Options) -> None:
    """Curves of regret, and the first trial of the first learner."""
    best = np.asarray(judged.tasks.means)[:, : judged.arms].max(axis=1)[:, None]
    regrets = {
        name: (best[: len(each)] - each).mean(axis=0).cumsum()
        for name, each in judged.rewards.items()
    }
    title = f"{options.arms} arms, mean over {options.eval_tasks} bandits"
    plots.regret(regrets, options.out / "regret.png", title=title)
    task, trial = jax.tree.map(lambda leaf: np.asarray(leaf[0]), (judged.tasks, judged.trials))
    chances = np.asarray(jax.nn.softmax(jnp.asarray(trial.logits)))
    path = options.out / "trial.png"
    plots.one_trial(task.means, trial.actions, trial.rewards, chances, path)


@in_a_sentence
def main(arguments: list[str] | None = None) -> int:
    """Train, judge, draw, and write everything down."""
    options = parse(Options, arguments, experiment="bandits", description=__doc__)
    placement = start(options.placement)
    begin(options.out, go_on=options.resume)
    options = with_defaults(options)
    environment, test = environments(options)
    sizes = {name: getattr(options, name) for name in ("arms", "pulls", "any_size", "size")}
    assert options.learner is not None
    trained: dict[str, Trained] = {
        name: train(name, *actor_of(name, environment, options), options, placement, **sizes)
        for name in options.learner
    }
    if jax.process_index() == 0:
        judged = [judge(trained, test, options, size) for size in sizes_of(options)]
        rows = [rows_of(each, options) for each in judged]
        draw(judged[0], options)
        text = "\n\n".join(as_text(each, options) for each in rows)
        write(list(itertools.chain(*rows)), trained, text, options)
    placement.wait()
    return 0


if __name__ == "__main__":
    cache_compilations()
    sys.exit(main())
