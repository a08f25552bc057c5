"""Learners that act: their training, the same run for all, and how they are judged."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
import optax

from experiments.common.command_line import as_settings, flag
from experiments.common.documents import as_percent, plus_minus, report, table
from experiments.common.placement import Placement
from experiments.common.run import Training, run
from experiments.common.training_loop import skip_faults
from jaxmeta import MetaLearner, checkpoint, losses, meta_objective, sparsity
from jaxmeta.acting import (
    Environment,
    Trial,
    actor_critic,
    actor_critic_objective,
    environment_tasks,
    history_tasks,
    play,
    with_blank_rows,
)
from jaxmeta.evaluation import interval95
from jaxmeta.types import LossFn, Sampler


@dataclass(frozen=True)
class Outer:
    """The flags of the outer loop."""

    steps: int | None = flag(None, "outer steps; the default depends on the size")
    tasks_per_step: int = flag(256, "trials of an outer step")
    learning_rate: float = 3e-3
    eta: float = flag(0.0, "weight of the L1 penalty on what is remembered")

    def of(self, steps: int) -> "Outer":
        """The flags, with so many outer steps if their number was not given."""
        return self if self.steps is not None else replace(self, steps=steps)


class Actor(NamedTuple):
    """A learner that acts, and what it is trained on."""

    learner: MetaLearner
    loss_fn: LossFn
    sampler: Sampler
    greedy: bool


class Trained(NamedTuple):
    """A learner with its theta, and the seconds that its training took."""

    actor: Actor
    theta: Any
    seconds: float


class Settings(Protocol):
    """What all experiments with learners that act have among their options."""

    @property
    def seed(self) -> int:
        """Of everything."""
        ...

    @property
    def out(self) -> Path:
        """The folder of the run."""
        ...

    @property
    def resume(self) -> bool:
        """Whether to go on from the newest states in it."""
        ...

    @property
    def json(self) -> bool:
        """Whether to print JSON."""
        ...


def by_policy_gradient(
    learner: MetaLearner,
    environment: Environment,
    outer: Outer,
    *,
    decay: float = 0.95,
    entropy: float = 0.02,
    greedy: bool = True,
) -> Actor:
    """Trained on the return of its own trials; judged by its likeliest actions, or by draws."""
    both = actor_critic(learner, environment)
    loss_fn = actor_critic_objective(
        both,
        environment,
        sparsity.l1,
        eta=outer.eta,
        entropy=entropy,
        num_steps=outer.steps,
        decay=decay,
    )
    return Actor(both, loss_fn, environment_tasks(environment), greedy)


def by_supervision(learner: MetaLearner, environment: Environment, outer: Outer) -> Actor:
    """Taught the best action after histories of others; judged by draws from what it predicts."""
    learner = with_blank_rows(learner)
    loss_fn = meta_objective(learner, losses.cross_entropy, sparsity.l1, eta=outer.eta)
    return Actor(learner, loss_fn, history_tasks(environment), greedy=False)


def train(
    name: str,
    actor: Actor,
    outer: Outer,
    options: Settings,
    placement: Placement,
    **config: Any,
) -> Trained:
    """Train a learner; from one log point to the next is one compiled call.

    Args:
      name: of the learner.
      actor: what is trained.
      outer: the flags of the outer loop, its steps included.
      options: of the experiment.
      placement: the devices.
      **config: further settings that the states are stored with.
    """
    assert outer.steps is not None
    steps = max(2, outer.steps)
    schedule = optax.warmup_cosine_decay_schedule(0.0, outer.learning_rate, steps // 20, steps)
    tx = skip_faults(optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule)))
    state, seconds = run(
        Training(actor.learner, actor.loss_fn, actor.sampler, tx),
        name=name,
        config=config | asdict(outer) | {"seed": options.seed},
        seed=options.seed,
        num_steps=outer.steps,
        tasks_per_step=outer.tasks_per_step,
        out=options.out,
        go_on=options.resume,
        placement=placement,
        tasks_per_chunk=outer.tasks_per_step,
        before={"learning_rate": 3e-3},
    )
    return Trained(actor, state.theta, seconds)


def write(
    rows: list[dict[str, Any]], trained: Mapping[str, Trained], text: str, options: Settings
) -> None:
    """Write result.json, and print it or the text."""
    for row in rows:
        if row["name"] in trained:
            row["seconds"] = trained[row["name"]].seconds
    document = {"config": as_settings(options), "results": rows, "versions": checkpoint.versions()}
    report(document, text, path=options.out / "result.json", as_json=options.json)


def trials_of(
    trained: Trained, environment: Environment, tasks: Any, key: jax.Array
) -> tuple[Trial, float]:
    """A trial of each task, and how many steps of the environment a second that takes."""
    keys = jax.random.split(key, len(jax.tree.leaves(tasks)[0]))
    actor, theta, _ = trained
    act = jax.jit(jax.vmap(partial(play, actor.learner, environment, theta, greedy=actor.greedy)))
    act = act.lower(tasks, keys).compile()
    begun = time.perf_counter()
    trials = jax.block_until_ready(act(tasks, keys))
    return trials, len(keys) * environment.num_steps / (time.perf_counter() - begun)


def row_of(name: str, scores: Mapping[str, np.ndarray], ours: str, seed: int) -> dict[str, Any]:
    """A policy's mean score, and what the learner `ours` has more than it on the same tasks."""
    score = np.asarray(scores[name], np.float64)
    more = np.asarray(scores[ours], np.float64)[: len(score)] - score[: len(scores[ours])]
    row = {"name": name, "reward": score.mean(), "ci95": interval95(score)}
    row |= {f"{ours}_more": more.mean(), f"{ours}_more_ci95": interval95(more)}
    return row | {"num_tasks": len(score), "seed": seed}


def as_table(rows: list[dict[str, Any]], ours: str, score: str, best: float | None) -> str:
    """Rows of `row_of` as text, with shares of the best score if that is known."""
    cells = [
        {
            "policy": row["name"],
            score: plus_minus(row["reward"], row["ci95"], scale=1.0, digits=3),
            "of the optimum %": as_percent(row["reward"] / best, digits=1) if best else "-",
            f"{ours} has more": plus_minus(
                row[f"{ours}_more"], row[f"{ours}_more_ci95"], scale=1.0, digits=3
            )
            if f"{ours}_more" in row and row["name"] != ours
            else "",
        }
        for row in rows
    ]
    return table(cells)
