"""The flags of `few_shot`, and the configuration of a training that they ask for."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from experiments.common.command_line import flag, overrides
from experiments.common.placement import Devices, device_flags
from experiments.images.config import DATASET_DEFAULTS, TrainConfig
from experiments.images.learners import LEARNERS

DEFAULT_LEARNERS = ("matching", "prototypes", "hypernet", "transfer", "nearest_neighbour")
TRAIN_FLAGS = {name: f"train_{name}" for name in ("ways", "shots", "queries")}
"""Settings of a training that test tasks have, too: their flags are other ones."""

Training = overrides(TrainConfig, **TRAIN_FLAGS)


@dataclass(frozen=True)
class TestTasks:
    """What learners are judged on."""

    ways: tuple[int, ...] = (5,)
    shots: tuple[int, ...] = (1,)
    queries: int = flag(5, "query images of each class")
    eval_tasks: int = 1000
    within_group: bool = flag(False, "classes of one script each")
    eval_only: bool = flag(False, "judge checkpoints, train nothing")
    eval_data: str | None = flag(None, "zip or folder <alphabet>/<character>/<drawing>.png")
    guard: bool | None = flag(
        None, "judge nearest centroid and logistic regression on the best learner's features"
    )
    runs: Path | None = flag(
        None, "all_runs.zip of Omniglot's one-shot challenge, or an .npz of runs"
    )
    checkpoints: Path | None = flag(None, "folder of the checkpoints to judge")


@dataclass(frozen=True)
class Options:
    """The command line."""

    dataset: Literal["glyphs", "omniglot"] = "glyphs"
    data_dir: str | None = flag(None, "folder of Omniglot's archives (or JAXMETA_DATA)")
    download: bool = flag(False, "fetch Omniglot if it is missing")
    learner: tuple[str, ...] | None = flag(
        None, f"default: {' '.join(DEFAULT_LEARNERS)}", choices=(*LEARNERS, "all")
    )
    out: Path = flag(Path("runs/few_shot"), "folder for all that is written")
    resume: bool = flag(False, "go on from the checkpoints in --out")
    seed: int = 0
    json: bool = flag(False, "print result.json to standard output")
    test: TestTasks = flag(TestTasks(), "test tasks")
    training: Training = flag(Training(), "training; the defaults depend on the data set")  # pyrefly: ignore
    placement: Devices = device_flags()

    @property
    def learners(self) -> tuple[str, ...]:
        """The learners that were asked for by name, none if none were."""
        return tuple(LEARNERS) if "all" in (self.learner or ()) else self.learner or ()


def train_config(options: Options, learner: str) -> TrainConfig:
    """The training configuration: given flags over the defaults of data set and learner."""
    settings: dict[str, Any] = {**DATASET_DEFAULTS[options.dataset], **LEARNERS[learner].defaults}
    given: dict[str, Any] = asdict(options.training)  # pyrefly: ignore
    for field in fields(TrainConfig):
        value = given.get(TRAIN_FLAGS.get(field.name, field.name))
        if value is not None:
            settings[field.name] = value
    fixed: dict[str, Any] = {"learner": learner, "dataset": options.dataset, "seed": options.seed}
    return TrainConfig(**settings | fixed)
