"""Few-shot intents on frozen sentence embeddings: probabilities, and sets that hold.

Claim: sets calibrated on tasks of other intents hold the right one nine times in ten on new
  intents, and are much smaller than those that logistic regression needs for it.
Command: python -m experiments.intents --data-dir DIR
Expected: the table in experiments/text/RESULTS.md.
Time: ten minutes on 2 CPU cores.

Each split of a data set has intents to train the temperature of prototypes on, intents to choose
by, and intents to be judged on. Sets are calibrated over the intents of the first two.
"""

import itertools
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from experiments.common.command_line import as_settings, flag, in_a_sentence, parse
from experiments.common.documents import as_percent, plus_minus, report, table
from experiments.common.plotting import reliability_diagram
from experiments.common.run import Training, begin, run
from experiments.common.training_loop import cache_compilations
from experiments.text.baselines import Answers, logistic_regression, mass_sets
from experiments.text.intents import SPLITS, Intents, load, tasks_of
from jaxmeta import checkpoint, evaluate, learners, losses, meta_objective, networks
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


@dataclass(frozen=True)
class Options:
    """The command line."""

    data_dir: str | None = flag(None, "folder of the data sets (or JAXMETA_DATA)")
    dataset: tuple[str, ...] = flag(("banking77", "clinc150"), "names of the files")
    ways: tuple[int, ...] = (5, 15)
    shots: tuple[int, ...] = (1, 5)
    queries: int = flag(5, "query sentences of each intent")
    level: float = flag(0.9, "how often a set is to hold the right intent")
    steps: int = flag(200, "outer steps that train the temperature")
    eval_tasks: int = flag(500, "tasks of each split, to calibrate on and to judge")
    baseline_tasks: int = flag(100, "of these, for logistic regression")
    seed: int = 0
    resume: bool = flag(False, "go on from the states in --out")
    json: bool = flag(False, "print result.json to standard output")
    out: Path = flag(Path("runs/intents"), "folder for all that is written")


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


def fit(setting: Setting, options: Options) -> Any:
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


def judge(setting: Setting, options: Options) -> list[dict[str, Any]]:
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


@in_a_sentence
def main(arguments: list[str] | None = None) -> int:
    """Train, calibrate, judge, draw, and write everything down."""
    options = parse(Options, arguments, experiment="intents", description=__doc__)
    begin(options.out, go_on=options.resume)
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
    document = {"config": as_settings(options), "results": rows}
    document["versions"] = checkpoint.versions()
    report(document, as_text(rows), path=options.out / "result.json", as_json=options.json)
    return 0


if __name__ == "__main__":
    cache_compilations()
    sys.exit(main())
