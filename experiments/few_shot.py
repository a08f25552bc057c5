"""Few-shot recognition of characters of unseen scripts, from one example each.

Claim: meta-learners trained from nothing in minutes beat transfer learning and the pixel floor.
Command: python -m experiments.few_shot
Expected: matching and prototypes above transfer above nearest_neighbour, on the same 1,000 tasks;
  the table is in experiments/README.md.
Time: about three minutes on 2 CPU cores.

More:
  python -m experiments.few_shot --dataset omniglot --data-dir DIR --learner prototypes
  python -m experiments.few_shot --eval-only --dataset omniglot --data-dir DIR --ways 5 20
  python -m experiments.few_shot --eval-only --dataset omniglot --eval-data unseen.zip
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import devices, plots
from experiments.building import build_learner, build_training
from experiments.command_line import check_finite, in_a_sentence
from experiments.configuration import TrainConfig
from experiments.data_sets import load_eval_data, load_train_data
from experiments.documents import to_json, write_json
from experiments.few_shot_flags import DEFAULT_LEARNERS, parse_arguments, train_config
from experiments.judging import (
    Trained,
    check_ways,
    compare_to_best,
    judge,
    load_trained,
    start_from,
    table,
    unseen_tasks,
)
from experiments.training_loop import cache_compilations, read_metrics, resume, train
from jaxmeta import checkpoint, make_step, scan_steps, training

CHECKPOINTS = Path(__file__).parent / "checkpoints"
LOG_EVERY = 25


def train_learner(options: argparse.Namespace, config: TrainConfig, data: Any) -> Trained:
    """Meta-train one learner, or go on where a checkpoint left it, and save what is shipped."""
    name, out = config.learner, options.out
    if not config.trains:
        return Trained(name, config, {}, 0.0)
    learner, loss_fn, sampler, tx = build_training(config, data)
    key = jax.random.key(config.seed)
    state = training.init(learner, tx, key, jax.jit(sampler)(key))
    if config.init_from is not None:
        start = start_from(Path(config.init_from), name, state.theta)
        state = state._replace(theta=start)
    seconds_before, settings = 0.0, {"name": name, "config": config.to_json(), "out": out}
    if options.resume:
        before = TrainConfig(name, config.dataset).to_json()
        state, seconds_before = resume(state, **settings, before=before)
    step = make_step(loss_fn, tx)
    run = scan_steps(
        step,
        sampler,
        num_steps=math.gcd(config.steps, LOG_EVERY),
        tasks_per_step=config.tasks_per_step,
    )
    state, seconds = train(
        devices.compiled(run, options),
        devices.placed(state, options),
        **settings,
        num_steps=config.steps,
        seconds_before=seconds_before,
        log_every=LOG_EVERY,
    )
    shipped = out / f"{name}.ckpt"
    meta = {**config.to_json(), "seconds": seconds}
    with np.errstate(over="ignore"):  # what has no place in the file has diverged, and is refused
        theta = jax.tree.map(lambda leaf: np.asarray(leaf).astype(np.float16), state.theta)
    check_finite(theta, f"{name}, stored in half precision,")
    checkpoint.save(shipped, theta, meta)
    devices.wait_for_all(options)  # the first one has written it
    return load_trained(shipped)


def checkpoint_folder(options: argparse.Namespace) -> Path:
    """Where `--eval-only` finds its learners: the flag, else `--out`, else the repository's."""
    if options.checkpoints:
        return options.checkpoints
    return options.out if any(options.out.glob("*.ckpt")) else CHECKPOINTS / options.dataset


def collect(options: argparse.Namespace) -> list[Trained]:
    """The learners to judge: trained now, or read from their checkpoints."""
    if not options.eval_only:
        found = []
        configs = [train_config(options, each) for each in options.learner or DEFAULT_LEARNERS]
        for config in configs:
            # What does not go together is refused before anything is trained.
            build_learner(config, config.ways)
            for ways in options.ways:
                check_ways(config, ways)
        for config in configs:
            data, config = load_train_data(config, options.data_dir, options.download)
            found.append(train_learner(options, config, data))
        return found
    folder = checkpoint_folder(options)
    paths = sorted(folder.glob("*.ckpt"))
    if not paths:
        raise ValueError(f"There is no checkpoint in {folder}; train first, or name --checkpoints.")
    found = [load_trained(path) for path in paths]
    floor = TrainConfig("nearest_neighbour", options.dataset)
    found.append(Trained(floor.learner, floor, {}, 0.0))
    wanted = set(options.learner or [each.config.learner for each in found])
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
    options = parse_arguments(arguments, __doc__)
    devices.start(options)
    options.out.mkdir(parents=True, exist_ok=True)
    leads = jax.process_index() == 0
    if leads and not (options.resume or options.eval_only):
        (options.out / "metrics.jsonl").write_text("")
    data = load_eval_data(options.dataset, options.data_dir, options.eval_data, options.download)
    settings = [(ways, shots) for ways in options.ways for shots in options.shots]
    for ways, shots in settings:
        unseen_tasks(data, ways, shots, options)  # refuse what the data lack before training
    learners = collect(options)
    rows = compare_to_best(
        [judge(each, data, *setting, options) for setting in settings for each in learners]
    )
    if leads:
        report(options, learners, rows, data)
    devices.wait_for_all(options)
    return 0


def report(
    options: argparse.Namespace, learners: list[Trained], rows: list[dict], data: Any
) -> None:
    """Write, draw and print the results."""
    result = {"config": vars(options), "results": rows}
    write_json(options.out / "result.json", result)
    draw(options, learners, data)
    print(to_json(result, indent=1) if options.json else table(rows))
    sys.stderr.write(f"Written to {options.out}: result.json, metrics.jsonl, plots, checkpoints.\n")


def draw(options: argparse.Namespace, learners: list[Trained], data: Any) -> None:
    """Learning curves, and one test task as the first learner sees it."""
    if (options.out / "metrics.jsonl").exists():
        records = list(read_metrics(options.out))
        if records:
            plots.learning_curves(records, options.out / "learning_curves.png")
    first = learners[0]
    ways, shots = options.ways[0], options.shots[0]
    task = unseen_tasks(data, ways, shots, options)(jax.random.key(options.seed))
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
