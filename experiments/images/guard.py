"""The guard: what plain classifiers make of the features of the best learner, in every table.

A learner that is not above both, by more than the interval over classes of the paired difference,
has good features, and nothing besides.
"""

import math
from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from experiments.common.documents import plus_minus
from experiments.common.evidence import paired
from experiments.images.judging import Trained, network_of
from experiments.images.learners import LEARNERS

BASELINES = {"centroid": "transfer", "logistic": "transfer_logistic"}


def baselines(learners: list[Trained]) -> list[Trained]:
    """Nearest centroid and logistic regression on the frozen features of the first that has any.

    Where none embeds its inputs apart from the task, on the pixels.
    """
    embeds = [each for each in learners if _embeds(each)]
    config = embeds[0].config if embeds else replace(learners[0].config, network="pixels")
    source, network = (embeds[0].name, network_of(embeds[0])) if embeds else ("pixels", ())
    plain = replace(config, num_classes=1, density=1.0, gate="closing")
    theta = {"network": network, "log_scale": jnp.log(10.0)}
    return [
        Trained(f"{name} on {source}", replace(plain, learner=learner), theta, 0.0)
        for name, learner in BASELINES.items()
    ]


def _embeds(trained: Trained) -> bool:
    entry = LEARNERS[trained.config.learner]
    plain = isinstance(trained.theta, dict) and "network" in trained.theta
    return plain and not entry.by_gradient and trained.config.learner not in BASELINES.values()


def compare_to_baselines(rows: list[dict[str, Any]]) -> None:
    """Each row's paired difference to the better baseline of its setting, and what to call it.

    The interval is over classes where there is one, else over tasks.
    """
    for row in rows:
        rivals = [
            each
            for each in rows
            if each["baseline"] and (each["ways"], each["shots"]) == (row["ways"], row["shots"])
        ]
        if row["baseline"] or not rivals:
            continue
        best = max(rivals, key=lambda each: each["accuracy"])["evaluation"]
        found = paired(row["evaluation"], best)
        row["to_baseline"] = {**found, "verdict": _verdict(found)}


def _half(found: dict[str, Any]) -> float:
    return found.get("ci95_classes", found["ci95"])


def _verdict(found: dict[str, Any]) -> str:
    mean, half = found["mean"], _half(found)
    if not math.isfinite(mean) or abs(mean) <= half:
        return "tie"
    return "win" if mean > 0 else "loss"


def as_text(row: dict[str, Any]) -> str:
    """The difference as a cell of the table."""
    found = row.get("to_baseline")
    if found is None:
        return ""
    return f"{plus_minus(found['mean'], _half(found))} {found['verdict']}"
