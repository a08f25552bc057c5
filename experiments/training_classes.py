"""How well a learner generalises, against the number of classes that it was trained on.

Claim: the gap between the classes of training and new ones closes with their number.
Command: python -m experiments.training_classes --data-dir DIR
Expected: the table in experiments/images/RESULTS.md, and `training_classes.png`.
Time: 45 minutes on 2 CPU cores.
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from experiments.common.command_line import as_settings, flag, in_a_sentence, parse
from experiments.common.documents import plus_minus, report, table
from experiments.common.run import Training, begin, run
from experiments.common.training_loop import cache_compilations
from experiments.images import plots
from experiments.images.config import TrainConfig
from experiments.images.data_sets import load_eval_data, load_train_data, some_classes
from experiments.images.learners import LEARNERS, build_learner, build_training
from jaxmeta import Evaluation, checkpoint, datasets, evaluate, tasks

LEAST_TASKS = 400  # for an interval over the 307 characters that are judged on


@dataclass(frozen=True)
class Options:
    """The command line."""

    data_dir: str | None = flag(None, "folder of Omniglot's archives (or JAXMETA_DATA)")
    learner: tuple[str, ...] = flag(("prototypes_euclidean", "maml"), choices=tuple(LEARNERS))
    classes: tuple[int, ...] = flag((30, 100, 300, 964), "training characters, drawn at random")
    width: int = flag(32, "of conv4")
    steps: int = flag(1500, "outer steps of each training")
    train_ways: int = flag(20, "of training tasks, where the learner has no number of its own")
    ways: int = flag(5, "of the tasks that learners are judged on")
    queries: int = flag(5, "query images of each class")
    eval_tasks: int = 1000
    seed: int = 0
    resume: bool = flag(False, "go on from the states in --out")
    json: bool = flag(False, "print result.json to standard output")
    out: Path = flag(Path("runs/training_classes"), "folder for all that is written")


def settings(name: str, options: Options) -> TrainConfig:
    """Of one learner at every number of classes: no class is turned or bent into another one."""
    given: dict[str, Any] = {"network": "conv4", "ways": options.train_ways, "learning_rate": 3e-3}
    given |= LEARNERS[name].defaults
    fixed: dict[str, Any] = {"learner": name, "dataset": "omniglot", "jitter": 0.0}
    fixed |= {
        "queries": options.queries,
        "width": options.width,
        "steps": options.steps,
        "seed": options.seed,
    }
    return TrainConfig(**given | fixed)


def fit(config: TrainConfig, data: datasets.ImageClasses, options: Options) -> Any:
    """Meta-train on these classes, or go on where a state was left."""
    count = len(data.images)
    state, _ = run(
        Training(*build_training(config, data)),
        name=f"{config.learner}-{count}",
        config=config.to_json() | {"num_classes": count},
        seed=options.seed,
        num_steps=options.steps,
        tasks_per_step=config.tasks_per_step,
        out=options.out,
        go_on=options.resume,
    )
    return state.theta


def judge(
    config: TrainConfig, theta: Any, options: Options, **pools: datasets.ImageClasses
) -> dict[str, Any]:
    """A row: accuracy on tasks of the classes of training and of new ones, and the gap."""
    learner, found = build_learner(config, options.ways), {}
    for name, data in pools.items():
        sampler = tasks.episodes(data, ways=options.ways, queries=options.queries)
        # The classes of training are all there are of them.
        known: dict[str, Any] = {
            "over": "classes",
            "num_classes": None if name == "new" else len(data.images),
        }
        found[name] = evaluate(
            learner,
            theta,
            sampler,
            key=jax.random.key(options.seed),
            num_tasks=options.eval_tasks,
            **known if options.eval_tasks >= LEAST_TASKS else {},
        )
    trained, new = found["trained"], found["new"]
    row = {"learner": config.learner, "classes": len(pools["trained"].images)}
    for name, result in found.items():
        row |= {name: result.mean, f"{name}_ci95": result.ci95}
    return row | {
        "trained_ci95_classes": trained.ci95_new,
        "new_ci95_classes": new.ci95_new,
        "gap": trained.mean - new.mean,
        "gap_ci95_classes": math.hypot(_half(trained), _half(new)),
        "num_tasks": new.num_tasks,
        "seed": options.seed,
        "inductive": True,
    }


def _half(result: Evaluation) -> float:
    return result.ci95_new if math.isfinite(result.ci95_new) else result.ci95


def as_text(rows: list[dict[str, Any]]) -> str:
    """The results as a table."""
    return table(
        [
            {
                "learner": row["learner"],
                "training classes": str(row["classes"]),
                "on these %": plus_minus(row["trained"], row["trained_ci95_classes"]),
                "on new classes %": plus_minus(row["new"], row["new_ci95_classes"]),
                "gap": plus_minus(row["gap"], row["gap_ci95_classes"]),
            }
            for row in rows
        ]
    )


@in_a_sentence
def main(arguments: list[str] | None = None) -> int:
    """Train, judge, draw, and write everything down."""
    options = parse(Options, arguments, experiment="training_classes", description=__doc__)
    begin(options.out, go_on=options.resume)
    new = load_eval_data("omniglot", options.data_dir, None, download=False)
    rows = []
    for name in options.learner:
        config = settings(name, options)
        data, config = load_train_data(config, options.data_dir, download=False)
        for count in options.classes:
            trained = some_classes(data, count, options.seed)
            theta = fit(config, trained, options)
            rows.append(judge(config, theta, options, trained=trained, new=new))
    plots.generalisation(rows, options.out / "training_classes.png", ways=options.ways)
    document = {"config": as_settings(options), "results": rows}
    document["versions"] = checkpoint.versions()
    text = as_text(rows) + "\n± is over classes; of training seeds it says nothing."
    report(document, text, path=options.out / "result.json", as_json=options.json)
    return 0


if __name__ == "__main__":
    cache_compilations()
    sys.exit(main())
