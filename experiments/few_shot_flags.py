"""The flags of `few_shot`, and the configuration of a training that they ask for."""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import get_args

from experiments import devices
from experiments.command_line import parse
from experiments.configuration import (
    DATASET_DEFAULTS,
    GATES,
    LEARNER_DEFAULTS,
    LEARNERS,
    NETWORKS,
    TrainConfig,
)
from jaxmeta import sparsity
from jaxmeta.learners.learned_init import Head

DEFAULT_LEARNERS = ("matching", "prototypes", "hypernet", "transfer", "nearest_neighbour")


def parse_arguments(
    arguments: list[str] | None = None, description: str | None = None
) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.few_shot",
        description=description,
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
