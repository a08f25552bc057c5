"""What a few-shot run is made of: data sets, learners by name, and their default settings."""

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import optax

from jaxmeta import (
    MetaLearner,
    learners,
    losses,
    meta_objective,
    networks,
    sparsity,
    tasks,
    transforms,
)
from jaxmeta.types import Array, LossFn, PyTree, Task

LEARNERS = (
    "matching",
    "matching_fce",
    "prototypes",
    "prototypes_euclidean",
    "hypernet",
    "transfer",
    "transfer_logistic",
    "nearest_neighbour",
)
"""The learners that `--learner` names."""

NETWORKS = {"residual": networks.residual, "conv4": networks.conv4}


@dataclass(frozen=True)
class TrainConfig:
    """All that determines a trained learner; it is stored in the checkpoint."""

    learner: str
    dataset: str
    network: str = "residual"
    width: int = 16
    ways: int = 80
    shots: int = 1
    most_shots: int | None = None  # a range of shots, for variable episodes
    queries: int = 2
    tasks_per_step: int = 1
    steps: int = 240
    learning_rate: float = 1e-2
    weight_decay: float = 0.05
    jitter: float = 1.0
    rotations: bool = False
    reflections: bool = False
    eta: float = 0.0
    density: float = 1.0
    num_classes: int = 1
    seed: int = 0
    init_from: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON."""
        return asdict(self)

    @property
    def trains(self) -> bool:
        """Whether there is anything to learn."""
        return self.learner != "nearest_neighbour" and self.steps > 0


DATASET_DEFAULTS: dict[str, dict[str, Any]] = {
    # Syllabics are turned and mirrored to change the vowel: turned letters are no new classes.
    "glyphs": {"rotations": False, "reflections": False},
    "omniglot": {
        "rotations": True,
        "reflections": True,
        "width": 32,
        "ways": 64,
        "queries": 3,
        "steps": 16_000,
        "learning_rate": 6e-3,
    },
}
"""Where a data set's training settings differ from those of `TrainConfig`."""

LEARNER_DEFAULTS: dict[str, dict[str, Any]] = {
    # Emission multiplies parameters by parameters: at the others' rate, or with 80 columns to
    # tell apart from the start, it does not settle.
    "hypernet": {"learning_rate": 3e-3, "ways": 20, "queries": 3, "tasks_per_step": 3},
}
"""Where a learner's training settings differ from those of its data set."""


def build_learner(
    config: TrainConfig, ways: int, density: float | Array | None = None
) -> MetaLearner:
    """The learner of a configuration for tasks of up to `ways` classes.

    `density` takes the place of the configuration's own, while the gate is closing.
    """
    network = NETWORKS[config.network](config.width)
    build = {
        "matching": lambda: learners.matching(network, ways=ways),
        "matching_fce": lambda: learners.matching(network, full_context=True, ways=ways),
        "prototypes": lambda: learners.prototypes(network, distance="cosine", ways=ways),
        "prototypes_euclidean": lambda: learners.prototypes(network, ways=ways),
        "hypernet": lambda: learners.hypernet(
            # A linear learner of all features: hidden layers cost points (BUILD_NOTES.md).
            networks.chain(network, networks.rms_norm()),
            out_size=ways,
            hidden=(),
        ),
        "transfer": lambda: learners.transfer(network, num_classes=config.num_classes, ways=ways),
        "transfer_logistic": lambda: learners.transfer(
            network, num_classes=config.num_classes, head="logistic", ways=ways
        ),
        "nearest_neighbour": lambda: learners.nearest_neighbour(ways=ways),
    }
    learner = build[config.learner]()
    if config.density != 1.0:
        share = config.density if density is None else density
        # By leaf: the share of a class's weights does not depend on how many classes there are.
        learner = transforms.sparsify(learner, sparsity.top_k(share, per="leaf"))
    return learner


def closing_gate(config: TrainConfig, step: Array | int) -> Array:
    """The density at an outer step: from 1 down to the configuration's, halfway through training.

    A `w` that is sparse from the start learns slowly: few entries have a gradient.
    """
    return config.density ** jnp.minimum(1.0, 2.0 * step / config.steps)


def build_training(config: TrainConfig, data: tasks.ImageClasses):
    """What the outer loop needs: `(learner, loss_fn, sampler, tx)`."""
    learner = build_learner(config, config.ways)
    if config.learner.startswith("transfer"):
        # The rival sees as many images a step as an episodic learner does.
        loss_fn = learners.pretrain_objective(NETWORKS[config.network](config.width))
        sampler = tasks.class_batches(
            data,
            batch_size=config.ways * (config.shots + config.queries),
            rotations=config.rotations,
            reflections=config.reflections,
            jitter=config.jitter,
        )
    else:
        loss_fn = episodic_objective(config)
        sampler = tasks.episodes(
            data,
            ways=config.ways,
            shots=(config.shots, config.most_shots or config.shots),
            queries=config.queries,
            rotations=config.rotations,
            reflections=config.reflections,
            jitter=config.jitter,
        )
    return learner, loss_fn, sampler, outer_optimiser(config)


def episodic_objective(config: TrainConfig) -> LossFn:
    """The mission's objective; while a gate closes, the learner is another at each outer step."""

    def loss_fn(theta: PyTree, task: Task, key: Array | None, step: Array | int = 0):
        objective = meta_objective(
            build_learner(config, config.ways, closing_gate(config, step)),
            losses.cross_entropy,
            sparsity.l1,
            eta=config.eta,
            metrics={"accuracy": losses.accuracy},
        )
        return objective(theta, task, key, step)

    return loss_fn


def outer_optimiser(config: TrainConfig) -> optax.GradientTransformation:
    """AdamW with a short warm-up and a cosine to zero."""
    warm_up = min(50, max(1, config.steps // 10))
    schedule = optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warm_up, config.steps)
    return optax.adamw(schedule, weight_decay=config.weight_decay)


def load_train_data(config: TrainConfig, data_dir: str | None, download: bool):
    """`(training data, config with its number of classes)`."""
    if config.dataset == "glyphs":
        data = tasks.glyphs("train")
    else:
        data = tasks.omniglot(_omniglot_dir(data_dir), "background", download=download)
    orientations = (4 if config.rotations else 1) * (2 if config.reflections else 1)
    return data, replace(config, num_classes=orientations * len(data.images))


def load_eval_data(dataset: str, data_dir: str | None, eval_data: str | None, download: bool):
    """The classes to be judged on, none of which is trained on."""
    if eval_data is not None:
        return tasks.read_drawings(eval_data)
    if dataset == "glyphs":
        return tasks.glyphs("test")
    return tasks.omniglot(_omniglot_dir(data_dir), "evaluation", download=download)


def _omniglot_dir(data_dir: str | None) -> Path:
    """The folder of the archives, given itself or its parent, by flag or by JAXMETA_DATA."""
    given = data_dir or os.environ.get("JAXMETA_DATA")
    if given is None:
        raise ValueError(
            "Omniglot is read from a folder: pass --data-dir DIR or set JAXMETA_DATA; the archives "
            "images_background.zip and images_evaluation.zip lie in it or in DIR/omniglot."
        )
    inside = Path(given) / "omniglot"
    return inside if inside.is_dir() else Path(given)
