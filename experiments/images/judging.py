"""Judging trained learners on unseen classes: reading checkpoints, rows of results, the table."""

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from experiments.common.command_line import check_finite
from experiments.common.evidence import judged
from experiments.images.config import TrainConfig
from experiments.images.flags import TestTasks
from experiments.images.learners import LEARNERS, build_learner, has_fixed_ways, is_inductive
from jaxmeta import Evaluation, Examples, Task, checkpoint, tasks
from jaxmeta.evaluation import brier_score, calibration_error, log_loss, reliability


@dataclass(frozen=True)
class Trained:
    """A learner that is ready to be judged."""

    name: str
    config: TrainConfig
    theta: Any
    seconds: float


def load_trained(path: Path) -> Trained:
    """A trained learner from its checkpoint, which says what it is.

    Raises:
      ValueError: if it holds no learner of `few_shot`.
      Diverged: if it holds numbers that are not finite.
    """
    stored = checkpoint.read_config(path)
    seconds = stored.pop("seconds", 0.0)
    try:
        config = TrainConfig.from_json(stored)
        if config.learner not in LEARNERS:
            raise ValueError(
                f"it was made for a learner {config.learner}, which this version does not have"
            )
    except ValueError as refused:
        raise ValueError(f"{path} cannot be judged: {refused}.") from refused
    learner = build_learner(config, config.ways)  # CAVIA's theta has an output for each class
    row = Examples(jnp.zeros((1, 28, 28, 1)), jnp.zeros(1, jnp.int32), jnp.ones(1))
    theta = jax.eval_shape(lambda: learner.init(jax.random.key(0), Task(row, row)))
    theta = checkpoint.restore(path, theta)
    check_finite(theta, str(path))
    return Trained(path.stem, config, theta, seconds)


def check_ways(config: TrainConfig, ways: int) -> None:
    """Refuse tasks of other classes than those that theta has outputs for.

    Raises:
      ValueError: if it has an output for each class, and there are more or fewer.
    """
    if has_fixed_ways(config) and ways != config.ways:
        raise ValueError(
            f"{config.learner} as it is set learns something for each of {config.ways} classes, "
            f"and cannot be judged on {ways} ways: train it with --train-ways {ways}."
        )


def start_from(path: Path, learner: str, theta: Any) -> Any:
    """theta, or of another theta its network alone, as that checkpoint has it.

    Args:
      path: a checkpoint, or a folder that has one of this learner.
      learner: the name of the learner that is to start.
      theta: where it would start otherwise.

    Raises:
      ValueError: if the networks are not alike.
    """
    path = path / f"{learner}.ckpt" if path.is_dir() else path
    source = load_trained(path)
    if source.config.learner == learner and _shapes(source.theta) == _shapes(theta):
        return source.theta
    nodes = jax.tree.leaves(source.theta, is_leaf=_has_network)
    given = _embedding(next(node["network"] for node in nodes if _has_network(node)))

    def replaced(node: Any) -> Any:
        if not _has_network(node):
            return node
        network = node["network"]
        if _shapes(_embedding(network)) != _shapes(given):
            raise ValueError(
                f"{path} holds a network {source.config.network} of width {source.config.width}, "
                f"from which the one that {learner} is asked to train cannot start: give the same "
                "--network and --width."
            )
        return node | {"network": [given, *network[1:]] if _is_chain(network) else given}

    return jax.tree.map(replaced, theta, is_leaf=_has_network)


def _has_network(node: Any) -> bool:
    return isinstance(node, dict) and "network" in node


def _is_chain(network: Any) -> bool:
    """Whether these are parameters of an embedding and a normalisation, which has none."""
    return isinstance(network, list) and network[1:] == [()]


def _embedding(network: Any) -> Any:
    return network[0] if _is_chain(network) else network


def network_of(trained: Trained) -> Any:
    """The parameters of a learner's network, without the normalisation behind it."""
    return _embedding(trained.theta["network"])


def _shapes(tree: Any) -> Any:
    return jax.tree.map(jnp.shape, tree)


def judge(
    trained: Trained,
    data: Any,
    ways: int,
    shots: int,
    test: TestTasks,
    *,
    seed: int,
    statistics: Literal["support", "query"] | None = None,
    baseline: bool = False,
    mesh: Mesh | None = None,
) -> dict[str, Any]:
    """One row of the table: the same test tasks for every learner."""
    config = trained.config
    if statistics:
        config = replace(config, statistics=statistics)
    check_ways(config, ways)
    learner = build_learner(config, ways)
    sampler = unseen_tasks(data, ways, shots, test)
    sys.stderr.write(f"judging {trained.name}: {test.eval_tasks} tasks, {ways}-way {shots}-shot\n")
    key, start = jax.random.key(seed), time.perf_counter()
    result = judged(
        learner,
        trained.theta,
        sampler,
        key=key,
        num_tasks=test.eval_tasks,
        mesh=mesh,
        keep_predictions=True,
    )
    seconds = time.perf_counter() - start
    return {
        **about(trained, result),
        "ways": ways,
        "shots": shots,
        "seed": seed,
        "baseline": baseline,
        "inductive": is_inductive(config),
        "tasks_per_second": result.num_tasks / seconds,
    }


def about(trained: Trained, result: Evaluation) -> dict[str, Any]:
    """What a row says of its learner, and of how it did."""
    config = trained.config
    return {
        "learner": trained.name,
        **probabilities(result),
        "accuracy": result.mean,
        "ci95": result.ci95,
        "ci95_classes": result.ci95_new,
        "num_tasks": result.num_tasks,
        "left_out": result.left_out,
        "evaluation": result,
        "density": result.density,
        "nonzeros": result.nonzeros,
        "bytes": result.num_bytes,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(trained.theta)),
        "steps": config.steps if LEARNERS[config.learner].trains else 0,
        "train_seed": config.seed,
        "seconds": trained.seconds,
        "versions": checkpoint.versions(),
    }


def probabilities(result: Evaluation) -> dict[str, Any]:
    """What the predicted probabilities are worth, and the worst tasks; nothing without any."""
    if result.predictions is None or not result.predictions.known.any():
        return {}
    p, y = result.predictions.probabilities()
    if not np.isfinite(p).all():
        return {}
    return {
        "log_loss": log_loss(p, y),
        "calibration_error": calibration_error(p, y, debiased=True),
        "brier_score": brier_score(p, y),
        "most_tasks_reach": result.tolerance_limit(),
        "betting_interval": result.betting_interval(),
        "reliability": reliability(p, y)._asdict(),
    }


def unseen_tasks(data: Any, ways: int, shots: int, test: TestTasks):
    """Test tasks: no rotations, no jitter."""
    return tasks.episodes(
        data, ways=ways, shots=shots, queries=test.queries, within_group=test.within_group
    )
