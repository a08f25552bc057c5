"""Few-shot recognition of characters of unseen scripts, from one example each.

Claim: meta-learners trained from nothing in minutes beat transfer learning and the pixel floor.
Command: python -m experiments.few_shot
Expected: matching and prototypes above transfer above nearest_neighbour, on the same 1,000 tasks;
  the table is in experiments/images/RESULTS.md.
Time: about three minutes on 2 CPU cores.

More:
  python -m experiments.few_shot --dataset omniglot --data-dir DIR --learner prototypes
  python -m experiments.few_shot --eval-only --dataset omniglot --data-dir DIR --ways 5 20
  python -m experiments.few_shot --eval-only --dataset omniglot --eval-data unseen.zip
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.common.command_line import as_settings, check_finite, in_a_sentence, parse
from experiments.common.documents import report
from experiments.common.placement import Placement, start
from experiments.common.plotting import reliability_diagram
from experiments.common.run import Training, begin, run
from experiments.common.training_loop import cache_compilations, read_metrics
from experiments.images import one_shot_runs, plots
from experiments.images.config import TrainConfig
from experiments.images.data_sets import load_eval_data, load_train_data
from experiments.images.flags import DEFAULT_LEARNERS, Options, train_config
from experiments.images.guard import baselines, compare_to_baselines
from experiments.images.judging import (
    Trained,
    check_ways,
    judge,
    load_trained,
    start_from,
    unseen_tasks,
)
from experiments.images.learners import LEARNERS, build_learner, build_training
from experiments.images.tables import compare_to_best, table
from jaxmeta import checkpoint

CHECKPOINTS = Path(__file__).parent / "checkpoints"
LOG_EVERY = 25


def train_learner(
    options: Options, placement: Placement, config: TrainConfig, data: Any
) -> Trained:
    """Meta-train one learner, or go on where a checkpoint left it, and save what is shipped."""
    name = config.learner
    if not LEARNERS[name].trains:
        return Trained(name, config, {}, 0.0)

    def start(theta: Any) -> Any:
        return (
            theta if config.init_from is None else start_from(Path(config.init_from), name, theta)
        )

    state, seconds = run(
        Training(*build_training(config, data)),
        name=name,
        config=config.to_json(),
        seed=config.seed,
        num_steps=config.steps,
        tasks_per_step=config.tasks_per_step,
        out=options.out,
        go_on=options.resume,
        placement=placement,
        log_every=LOG_EVERY,
        before=TrainConfig(name, config.dataset).to_json(),
        start_from=start,
    )
    shipped = options.out / f"{name}.ckpt"
    with np.errstate(over="ignore"):  # what has no place in the file has diverged, and is refused
        theta = jax.tree.map(lambda leaf: np.asarray(leaf).astype(np.float16), state.theta)
    check_finite(theta, f"{name}, stored in half precision,")
    checkpoint.save(shipped, theta, {**config.to_json(), "seconds": seconds})
    placement.wait()  # the first one has written it
    return load_trained(shipped)


def checkpoint_folder(options: Options) -> Path:
    """Where `--eval-only` finds its learners: the flag, else `--out`, else the repository's."""
    if options.test.checkpoints:
        return options.test.checkpoints
    return options.out if any(options.out.glob("*.ckpt")) else CHECKPOINTS / options.dataset


def collect(options: Options, placement: Placement) -> list[Trained]:
    """The learners to judge: trained now, or read from their checkpoints."""
    if not options.test.eval_only:
        found = []
        configs = [train_config(options, each) for each in options.learners or DEFAULT_LEARNERS]
        for config in configs:
            # What does not go together is refused before anything is trained.
            build_learner(config, config.ways)
            for ways in options.test.ways:
                check_ways(config, ways)
        for config in configs:
            data, config = load_train_data(config, options.data_dir, options.download)
            found.append(train_learner(options, placement, config, data))
        return found
    folder = checkpoint_folder(options)
    paths = sorted(folder.glob("*.ckpt"))
    if not paths:
        raise ValueError(f"There is no checkpoint in {folder}; train first, or name --checkpoints.")
    found = [load_trained(path) for path in paths]
    floor = TrainConfig("nearest_neighbour", options.dataset)
    found.append(Trained(floor.learner, floor, {}, 0.0))
    wanted = set(options.learners or [each.config.learner for each in found])
    missing = wanted - {each.config.learner for each in found}
    if missing:
        raise ValueError(
            f"{folder} holds no checkpoint of {', '.join(sorted(missing))}; it holds "
            f"{', '.join(path.stem for path in paths)}."
        )
    return [each for each in found if each.config.learner in wanted]


@in_a_sentence
def main(arguments: list[str] | None = None) -> int:
    """Train, judge, and write everything down."""
    options = parse(Options, arguments, experiment="few_shot", description=__doc__)
    test, placement = options.test, start(options.placement)
    begin(options.out, go_on=options.resume or test.eval_only)
    runs = None if test.runs is None else one_shot_runs.read_runs(test.runs)
    data = load_eval_data(options.dataset, options.data_dir, test.eval_data, options.download)
    settings = [(ways, shots) for ways in test.ways for shots in test.shots]
    for ways, shots in settings:
        unseen_tasks(data, ways, shots, test)  # refuse what the data lack before training
    learners = collect(options, placement)
    judged = partial(
        judge,
        test=test,
        seed=options.seed,
        statistics=options.training.statistics,  # pyrefly: ignore
        mesh=placement.mesh,
    )
    rows = [judged(each, data, *setting) for setting in settings for each in learners]
    if test.guard is not False:
        plain = baselines(best_first(learners, rows))
        rows += [
            judged(each, data, *setting, baseline=True) for setting in settings for each in plain
        ]
        compare_to_baselines(rows)
    rows = compare_to_best(rows)
    document = {"config": as_settings(options), "results": rows}
    text = table(rows)
    if runs is not None:
        document["runs"] = one_shot_runs.judge_all(learners, runs)
        text += f"\n\n{one_shot_runs.table(document['runs'])}"
    if jax.process_index() == 0:
        draw(options, learners, data, rows)
        report(document, text, path=options.out / "result.json", as_json=options.json)
        sys.stderr.write(
            f"Written to {options.out}: result.json, metrics.jsonl, plots, checkpoints.\n"
        )
    placement.wait()
    return 0


def best_first(learners: list[Trained], rows: list[dict[str, Any]]) -> list[Trained]:
    """The learners by accuracy in the first setting."""
    accuracy = dict(zip((each.name for each in learners), rows, strict=False))
    return sorted(learners, key=lambda each: -np.nan_to_num(accuracy[each.name]["accuracy"]))


def draw(options: Options, learners: list[Trained], data: Any, rows: list[dict]) -> None:
    """Learning curves, reliability, and one test task as the first learner sees it."""
    first, test = learners[0], options.test
    ways, shots = test.ways[0], test.shots[0]
    curves = {
        row["learner"]: row["reliability"]
        for row in rows
        if "reliability" in row and (row["ways"], row["shots"]) == (ways, shots)
    }
    reliability_diagram(curves, options.out / "reliability.png")
    if (options.out / "metrics.jsonl").exists():
        records = list(read_metrics(options.out))
        if records:
            plots.learning_curves(records, options.out / "learning_curves.png")
    task = unseen_tasks(data, ways, shots, test)(jax.random.key(options.seed))
    plots.one_task(
        build_learner(first.config, ways),
        first.theta,
        task,
        options.out / "task.png",
        title=f"An unseen task, {ways}-way {shots}-shot: support above, queries at the left,\n"
        f"attention of {first.name} in %, the right class framed",
    )


if __name__ == "__main__":
    cache_compilations()
    sys.exit(main())
