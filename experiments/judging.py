"""Judging trained learners on unseen classes: reading checkpoints, rows of results, the table."""

import argparse
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments import devices
from experiments.building import build_learner
from experiments.configuration import TrainConfig
from jaxmeta import Examples, Task, checkpoint, evaluate, paired_difference, tasks


@dataclass(frozen=True)
class Trained:
    """A learner that is ready to be judged."""

    name: str
    config: TrainConfig
    theta: Any
    seconds: float


def load_trained(path: Path) -> Trained:
    """A trained learner from its checkpoint, which says what it is."""
    stored = checkpoint.read_config(path)
    seconds = stored.pop("seconds", 0.0)
    config = TrainConfig(**stored)
    learner = build_learner(config, config.ways)  # CAVIA's theta has an output for each class
    row = Examples(jnp.zeros((1, 28, 28, 1)), jnp.zeros(1, jnp.int32), jnp.ones(1))
    theta = jax.eval_shape(lambda: learner.init(jax.random.key(0), Task(row, row)))
    return Trained(path.stem, config, checkpoint.restore(path, theta), seconds)


def start_from(path: Path, learner: str, theta: Any) -> Any:
    """theta, or of another learner's theta its network alone, as that checkpoint has it.

    Args:
      path: a checkpoint, or a folder that has one of this learner.
      learner: the name of the learner that is to start.
      theta: where it would start otherwise.
    """
    source = load_trained(path / f"{learner}.ckpt" if path.is_dir() else path)
    if source.config.learner == learner:
        return source.theta

    given = source.theta["network"]

    def has_network(node: Any) -> bool:
        return isinstance(node, dict) and "network" in node

    def replaced(network: Any) -> Any:
        # In a chain the embedding comes first.
        alike = jax.tree.structure(network) == jax.tree.structure(given)
        return given if alike else [given, *network[1:]]

    return jax.tree.map(
        lambda node: node | {"network": replaced(node["network"])} if has_network(node) else node,
        theta,
        is_leaf=has_network,
    )


def judge(
    trained: Trained, data: Any, ways: int, shots: int, options: argparse.Namespace
) -> dict[str, Any]:
    """One row of the table: the same test tasks for every learner."""
    config = trained.config
    if options.statistics:
        config = replace(config, statistics=options.statistics)
    learner = build_learner(config, ways)
    sampler = unseen_tasks(data, ways, shots, options)
    sys.stderr.write(
        f"judging {trained.name}: {options.eval_tasks} tasks, {ways}-way {shots}-shot\n"
    )
    start = time.perf_counter()
    result = evaluate(
        learner,
        trained.theta,
        sampler,
        key=jax.random.key(options.seed),
        num_tasks=options.eval_tasks,
        mesh=devices.mesh(options),
    )
    seconds = time.perf_counter() - start
    return {
        "learner": trained.name,
        "accuracy": result.mean,
        "ci95": result.ci95,
        "num_tasks": result.num_tasks,
        "ways": ways,
        "shots": shots,
        "seed": options.seed,
        "inductive": config.inductive,
        "evaluation": result,
        "density": result.density,
        "nonzeros": result.nonzeros,
        "bytes": result.num_bytes,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(trained.theta)),
        "steps": trained.config.steps if trained.config.trains else 0,
        "train_seed": trained.config.seed,
        "seconds": trained.seconds,
        "tasks_per_second": result.num_tasks / seconds,
        "versions": checkpoint.versions(),
    }


def unseen_tasks(data: Any, ways: int, shots: int, options: argparse.Namespace):
    """Test tasks: no rotations, no jitter."""
    return tasks.episodes(
        data, ways=ways, shots=shots, queries=options.queries, within_group=options.within_group
    )


def compare_to_best(rows: list[dict]) -> list[dict]:
    """Rows of one setting after the other, best first, each with its paired difference to it.

    The tasks are the same for all, so the interval is that of the difference task by task.
    """
    ordered = []
    for setting in dict.fromkeys((row["ways"], row["shots"]) for row in rows):
        same = [row for row in rows if (row["ways"], row["shots"]) == setting]
        same.sort(key=lambda row: -row["accuracy"])
        best = same[0]["evaluation"]
        for row in same:
            mean, ci95 = paired_difference(row["evaluation"], best)
            ordered.append(row | {"to_best": {"mean": mean, "ci95": ci95}})
    for row in ordered:
        del row["evaluation"]
    return ordered


def table(rows: list[dict]) -> str:
    """The results as text."""
    head = (
        f"{'learner':<22}{'ways':>5}{'shots':>6}{'accuracy %':>16}{'to the best':>16}{'tasks':>7}"
        f"{'density':>9}{'non-zeros':>11}{'bytes':>9}{'train s':>9}{'tasks/s':>9}"
    )
    lines = [head, "-" * len(head)]
    for row in rows:
        accuracy = f"{100 * row['accuracy']:.2f} ± {100 * row['ci95']:.2f}"
        behind = f"{100 * row['to_best']['mean']:.2f} ± {100 * row['to_best']['ci95']:.2f}"
        name = row["learner"] + ("" if row["inductive"] else " (transd.)")
        lines.append(
            f"{name:<22}{row['ways']:>5}{row['shots']:>6}{accuracy:>16}"
            f"{behind:>16}{row['num_tasks']:>7}{row['density']:>9.3f}{row['nonzeros']:>11.0f}"
            f"{row['bytes']:>9.0f}{row['seconds']:>9.0f}{row['tasks_per_second']:>9.0f}"
        )
    return "\n".join(lines)
