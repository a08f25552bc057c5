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
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np

from experiments import devices, plots
from experiments.building import build_learner, build_training
from experiments.command_line import check_finite, in_a_sentence, parse
from experiments.configuration import (
    DATASET_DEFAULTS,
    GATES,
    LEARNER_DEFAULTS,
    LEARNERS,
    NETWORKS,
    TrainConfig,
)
from experiments.data_sets import load_eval_data, load_train_data
from experiments.documents import to_json, write_json
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
from jaxmeta import checkpoint, make_step, scan_steps, sparsity, training
from jaxmeta.learners.learned_init import Head

CHECKPOINTS = Path(__file__).parent / "checkpoints"
LOG_EVERY = 25
DEFAULT_LEARNERS = ("matching", "prototypes", "hypernet", "transfer", "nearest_neighbour")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.few_shot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--dataset", choices=sorted(DATASET_DEFAULTS), default="glyphs")
    add("--data-dir", help="folder of Omniglot's archives (or JAXMETA_DATA)")
    add("--download", action="store_true", help="fetch Omniglot if it is missing")
    add(
        "--learner",
        nargs="+",
        choices=[*LEARNERS, "all"],
        help=f"default: {' '.join(DEFAULT_LEARNERS)}",
    )
    add("--out", type=Path, default=Path("runs/few_shot"), help="folder for all that is written")
    add("--resume", action="store_true", help="go on from the checkpoints in --out")
    add("--seed", type=int, default=0)
    add("--json", action="store_true", help="print result.json to standard output")

    group = parser.add_argument_group("test tasks")
    group.add_argument("--ways", type=int, nargs="+", default=[5])
    group.add_argument("--shots", type=int, nargs="+", default=[1])
    group.add_argument("--queries", type=int, default=5, help="query images of each class")
    group.add_argument("--eval-tasks", type=int, default=1000)
    group.add_argument("--within-group", action="store_true", help="classes of one script each")
    group.add_argument("--eval-only", action="store_true", help="judge checkpoints, train nothing")
    group.add_argument("--eval-data", help="zip or folder <alphabet>/<character>/<drawing>.png")
    group.add_argument("--checkpoints", type=Path, help="folder of the checkpoints to judge")

    group = parser.add_argument_group("training; the defaults depend on the data set")
    group.add_argument("--steps", type=int)
    group.add_argument("--tasks-per-step", type=int)
    group.add_argument("--train-ways", type=int, dest="train_ways")
    group.add_argument("--train-shots", type=int, dest="train_shots")
    group.add_argument("--most-shots", type=int, help="draw each episode's shots up to this")
    group.add_argument(
        "--init-from", help="checkpoint to start from: theta, or another learner's network"
    )
    group.add_argument("--train-queries", type=int, dest="train_queries")
    group.add_argument("--network", choices=sorted(NETWORKS))
    group.add_argument("--width", type=int)
    group.add_argument("--precision", choices=("float32", "bfloat16"), help="of the network")
    group.add_argument("--learning-rate", type=float)
    group.add_argument("--jitter", type=float)
    group.add_argument("--rotations", action=argparse.BooleanOptionalAction, default=None)
    group.add_argument("--reflections", action=argparse.BooleanOptionalAction, default=None)
    group.add_argument("--eta", type=float, help="weight of the L1 penalty on w")
    group.add_argument("--inner-steps", type=int, help="of the gradient learners")
    group.add_argument("--inner-rate", type=float)
    group.add_argument(
        "--statistics",
        choices=("support", "query"),
        help="batch statistics that gradient learners judge queries by: of the support set, or of "
        "the queries themselves (transductive); counts with --eval-only too",
    )
    group.add_argument("--head", choices=get_args(Head), help="where their heads start")
    group.add_argument("--density", type=float, help="share of w that leaves adapt non-zero")
    group.add_argument("--gate", choices=GATES, help="what keeps w to that density")
    group.add_argument("--per", choices=get_args(sparsity.Per), help="what a gate ranks")
    devices.add_flags(parser)
    options = parse(parser, arguments)
    if options.learner and "all" in options.learner:
        options.learner = list(LEARNERS)
    return options


def train_config(options: argparse.Namespace, learner: str) -> TrainConfig:
    """The training configuration: given flags over the defaults of data set and learner."""
    settings = DATASET_DEFAULTS[options.dataset] | LEARNER_DEFAULTS.get(learner, {})
    for field in fields(TrainConfig):
        flag = f"train_{field.name}" if field.name in ("ways", "shots", "queries") else field.name
        if getattr(options, flag, None) is not None:
            settings[field.name] = getattr(options, flag)
    settings["learner"] = learner  # the flag names several
    return TrainConfig(**settings)


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
    options = parse_arguments(arguments)
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
