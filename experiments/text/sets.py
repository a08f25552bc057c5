"""Sets of prototypes and of logistic regression on new intents, calibrated on other intents.

Each split of a data set has intents to train the temperature of prototypes on, intents to choose
by, and intents to be judged on. Sets are calibrated over the intents of the first two.
"""

import itertools
import math
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from experiments.common.documents import as_percent, plus_minus, table
from experiments.common.plotting import reliability_diagram
from experiments.common.run import Training, run
from experiments.text.baselines import Answers, logistic_regression, mass_sets
from experiments.text.intents import SPLITS, Intents, load, tasks_of
from jaxmeta import evaluate, learners, losses, meta_objective, networks
from jaxmeta.evaluation import (
    calibration_error,
    conformal,
    interval95,
    interval_over_classes,
    log_loss,
    prediction_set,
    reliability,
)
from jaxmeta.types import MetaLearner, Sampler

LEARNERS = ("prototypes", "logistic regression")
STRENGTH = 100.0  # scikit-learn's C: its default of 1 leaves unit vectors undecided


class Setting(NamedTuple):
    """One split of a data set, at one size of task."""

    data: Intents
    split: int
    ways: int
    shots: int

    def tasks(self, *parts: str, queries: int) -> Sampler:
        """Tasks of the intents of some parts."""
        classes = np.concatenate([self.data.splits[self.split][part] for part in parts])
        return tasks_of(self.data, classes, ways=self.ways, shots=self.shots, queries=queries)


def build(ways: int) -> MetaLearner:
    """Prototypes by cosine; theta is the scale of the logits."""
    return learners.prototypes(networks.identity(), distance="cosine", ways=ways)


def fit(setting: Setting, options: Any) -> Any:
    """The scale that is right on tasks of the training intents."""
    learner = build(setting.ways)
    objective = meta_objective(learner, losses.cross_entropy)
    tx = optax.adam(optax.cosine_decay_schedule(0.1, max(1, options.steps)))
    data, split, ways, shots = setting
    state, _ = run(
        Training(learner, objective, setting.tasks("train", queries=options.queries), tx),
        name=f"{data.name}-{split + 1}-{ways}-{shots}",
        config={"steps": options.steps, "seed": options.seed, "queries": options.queries},
        seed=options.seed,
        num_steps=options.steps,
        tasks_per_step=8,
        out=options.out,
        go_on=options.resume,
        steps_per_call=max(1, options.steps),
    )
    return state.theta


def judge(setting: Setting, options: Any) -> list[dict[str, Any]]:
    """What prototypes and logistic regression do on the unseen intents of one split."""
    theta, learner = fit(setting, options), build(setting.ways)
    calibration, test = jax.random.split(jax.random.key(options.seed + setting.split))
    known = setting.tasks("train", "valid", queries=options.queries)
    drawn = {"num_tasks": options.eval_tasks, "tasks_per_chunk": 50}
    threshold = conformal(
        learner, theta, known, options.level, key=calibration, over="classes", **drawn
    )
    unseen = setting.tasks("test", queries=options.queries)
    result = evaluate(learner, theta, unseen, key=test, keep_predictions=True, **drawn)
    z, y, _ = result.predictions  # pyrefly: ignore
    ours = Answers(np.asarray(jax.nn.softmax(z)), y)
    keys = jax.random.split(test, options.eval_tasks)
    theirs = logistic_regression(unseen, keys[: options.baseline_tasks], strength=STRENGTH)
    held = np.asarray(jax.jit(jax.vmap(unseen.classes))(keys))  # pyrefly: ignore
    sets = prediction_set(ours.probabilities, threshold), mass_sets(theirs, options.level)
    found = []
    for name, answers, each in zip(LEARNERS, (ours, theirs), sets, strict=True):
        found.append({"learner": name} | measured(answers, each, held[: len(answers.y)]))
    return found


def measured(answers: Answers, sets: np.ndarray, held: np.ndarray) -> dict[str, Any]:
    """What the answers and sets of one split are worth."""
    right = answers.probabilities.argmax(axis=-1) == answers.y
    per_task = right.mean(axis=1)
    p, y = answers.rows()
    try:
        over_classes = interval_over_classes(per_task, held)
    except ValueError:  # too few tasks, or intents, to tell
        over_classes = math.nan
    return {
        "accuracy": per_task.mean(),
        "ci95": interval95(per_task),
        "ci95_classes": over_classes,
        "log_loss": log_loss(p, y),
        "calibration_error": calibration_error(p, y, debiased=True),
        "coverage": np.take_along_axis(sets, answers.y[..., None], axis=-1).mean(),
        "set_size": sets.sum(axis=-1).mean(),
        "num_tasks": len(per_task),
        "reliability": reliability(p, y)._asdict(),
    }


def over_splits(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of the rows of one learner over splits; intervals are those of one split."""
    first, means = rows[0], {}
    for key in ("accuracy", "ci95", "ci95_classes", "log_loss", "calibration_error"):
        means[key] = float(np.mean([row[key] for row in rows]))
    for key in ("coverage", "set_size"):
        means[key] = float(np.mean([row[key] for row in rows]))
        means[f"{key}_of_splits"] = [float(row[key]) for row in rows]
    kept = ("dataset", "ways", "shots", "learner", "num_tasks", "reliability")
    return {key: first[key] for key in kept} | means | {"splits": len(rows), "inductive": True}


def judged_sets(options: Any) -> list[dict[str, Any]]:
    """A row for each learner, data set and size of task; draws how true probabilities are."""
    sets, rows = [load(options.data_dir, name) for name in options.dataset], []
    for data, ways, shots in itertools.product(sets, options.ways, options.shots):
        about = {"dataset": data.name, "ways": ways, "shots": shots}
        found = [judge(Setting(data, split, ways, shots), options) for split in range(SPLITS)]
        for same in zip(*found, strict=True):
            rows.append(over_splits([about | each for each in same]))
    shown = [row for row in rows if row["dataset"] == rows[0]["dataset"]]
    curves = {
        f"{row['learner']}, {row['ways']}-way {row['shots']}-shot": row["reliability"]
        for row in shown
    }
    reliability_diagram(curves, options.out / "reliability.png")
    return rows


def as_text(rows: list[dict[str, Any]]) -> str:
    """The results as a table, and what its numbers mean."""
    shown = table(
        [
            {
                "tasks": f"{row['dataset']} {row['ways']}-way {row['shots']}-shot",
                "learner": row["learner"],
                "accuracy %": plus_minus(row["accuracy"], row["ci95_classes"], digits=1),
                "log-loss": as_percent(row["log_loss"], scale=1.0, digits=3),
                "ECE %": as_percent(row["calibration_error"], digits=1),
                "held %": as_percent(row["coverage"], digits=1),
                "labels a set": as_percent(row["set_size"], scale=1.0, digits=2),
            }
            for row in rows
        ]
    )
    return (
        f"{shown}\nMeans over the splits of the intents; ± is over the unseen intents of one split."
        "\nSets of logistic regression are its likeliest intents of that probability together."
    )
