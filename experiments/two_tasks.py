"""The mission's worked example: 2 tasks x 100 samples x 5 features, binary labels.

Claim: with a labelling rule for each task every meta-learner is right on more than 90% of fresh
  samples, and the hypernetwork still is at a tenth of its weights; with random labels, the
  control, nothing can be learnt and the interval holds 50%.
Command: python -m experiments.two_tasks
Expected: the table in experiments/sinusoids/RESULTS.md.
Time: about a minute on 2 CPU cores.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import optax

from experiments.common.command_line import as_settings, flag, in_a_sentence, parse
from experiments.common.documents import plus_minus, report, table
from experiments.common.run import Training, begin, run
from experiments.common.training_loop import cache_compilations
from jaxmeta import (
    Evaluation,
    MetaLearner,
    evaluate,
    learners,
    losses,
    meta_objective,
    networks,
    sparsity,
    tasks,
    transforms,
)

ETA = 1e-5


def hypernet(density: float = 1.0) -> MetaLearner:
    """A hypernetwork that reads the description and the support set, sparse on demand."""
    learner = learners.hypernet(networks.identity(), out_size=2, source="both")
    return transforms.sparsify(learner, sparsity.top_k(density)) if density < 1.0 else learner


def all_learners() -> dict[str, MetaLearner]:
    """The learners of the table."""
    embedding = networks.mlp([64, 32])
    return {
        "matching": learners.matching(embedding, ways=2),
        "prototypes": learners.prototypes(embedding, ways=2),
        "hypernet": hypernet(),
        "hypernet, 10%": hypernet(0.1),
        "nearest_neighbour": learners.nearest_neighbour(ways=2),
    }


@dataclass(frozen=True)
class Options:
    """The command line."""

    learner: tuple[str, ...] = flag(tuple(all_learners()), choices=tuple(all_learners()))
    steps: int = flag(1000, "outer steps of each training")
    eval_tasks: int = 1000
    seed: int = 0
    resume: bool = flag(False, "go on from the states in --out")
    json: bool = flag(False, "print result.json to standard output")
    out: Path = flag(Path("runs/two_tasks"), "folder for all that is written")


def train_and_judge(name: str, options: Options, *, rule: bool) -> Evaluation:
    """Meta-train on the two tasks, judge on fresh samples of them.

    Raises:
      Diverged: if training ends with a theta that is not finite.
    """
    learner, sampler, theta = all_learners()[name], tasks.two_tasks(rule=rule), {}
    if name != "nearest_neighbour":
        tx = optax.adam(optax.cosine_decay_schedule(1e-2, max(1, options.steps)))
        objective = meta_objective(learner, losses.cross_entropy, sparsity.l1, eta=ETA)
        labels = "rule" if rule else "random"
        state, _ = run(
            Training(learner, objective, sampler, tx),
            name=f"{name.replace(', ', '-').rstrip('%')}-{labels}",
            config={"steps": options.steps, "seed": options.seed},
            seed=options.seed,
            num_steps=options.steps,
            tasks_per_step=8,
            out=options.out,
            go_on=options.resume,
            steps_per_call=max(1, options.steps),
        )
        theta = state.theta
    key = jax.random.key(options.seed + 1)
    return evaluate(learner, theta, sampler, key=key, num_tasks=options.eval_tasks)


@in_a_sentence
def main(arguments: list[str] | None = None) -> int:
    """Print and write the table."""
    options = parse(Options, arguments, experiment="two_tasks", description=__doc__)
    begin(options.out, go_on=options.resume)
    rows: list[dict[str, Any]] = []
    for rule in (True, False):
        for name in options.learner:
            result = train_and_judge(name, options, rule=rule)
            row = {"labels": "rule" if rule else "random", "learner": name}
            row |= {"accuracy": result.mean, "ci95": result.ci95, "density": result.density}
            row |= {"num_tasks": result.num_tasks, "seed": options.seed}
            rows.append(row | {"inductive": True})
    text = table(
        [
            {
                "labels": row["labels"],
                "learner": row["learner"],
                "accuracy on fresh samples %": plus_minus(row["accuracy"], row["ci95"]),
                "density": f"{row['density']:.3f}",
            }
            for row in rows
        ]
    )
    document = {"config": as_settings(options), "results": rows}
    report(document, text, path=options.out / "result.json", as_json=options.json)
    return 0


if __name__ == "__main__":
    cache_compilations()
    sys.exit(main())
