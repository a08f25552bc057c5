"""The learners that `--learner` names: how each is built, trained, and set by default."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import optax

from experiments.common.training_loop import skip_faults
from experiments.images import building
from experiments.images.building import (
    Build,
    descends,
    descends_at_learned_rates,
    embedding,
    emits,
    encoder,
    inner_options,
)
from experiments.images.config import BATCH_NORMALISED, TrainConfig
from experiments.sparse import gates
from jaxmeta import (
    MetaLearner,
    datasets,
    learners,
    losses,
    meta_objective,
    sparsity,
    tasks,
)
from jaxmeta.types import Array, LossFn, PyTree, Task


def build_learner(
    config: TrainConfig, ways: int, density: float | Array | None = None
) -> MetaLearner:
    """The learner of a configuration for tasks of up to `ways` classes.

    `density` takes the place of the configuration's own, while the gate is closing.

    Raises:
      ValueError: if the learner and its gate do not go together.
    """
    share = config.density if density is None else density
    return LEARNERS[config.learner].build(config, ways, share)


def build_training(config: TrainConfig, data: datasets.ImageClasses):
    """What the outer loop needs: `(learner, loss_fn, sampler, tx)`."""
    entry = LEARNERS[config.learner]
    learner = build_learner(config, config.ways)
    return learner, entry.objective(config), entry.sampler(config, data), outer_optimiser(config)


def is_inductive(config: TrainConfig) -> bool:
    """Whether a query is judged without regard to the other queries."""
    if config.network not in BATCH_NORMALISED:
        return True
    # The other learners embed queries apart from the support set, by statistics of their own.
    return LEARNERS[config.learner].by_gradient and config.statistics == "support"


def has_fixed_ways(config: TrainConfig) -> bool:
    """Whether theta holds something for each class."""
    entry = LEARNERS[config.learner]
    return entry.fixed_ways or (entry.by_gradient and config.head == "separate")


def outer_optimiser(config: TrainConfig) -> optax.GradientTransformation:
    """AdamW with a short warm-up and a cosine to zero; no step where the gradient is not finite."""
    warm_up = min(50, max(1, config.steps // 10))
    # No schedule is as short as no step, or as one.
    steps = max(2, config.steps)
    schedule = optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warm_up, steps)
    return skip_faults(optax.adamw(schedule, weight_decay=config.weight_decay))


# Objectives and samplers


def episodic_objective(config: TrainConfig) -> LossFn:
    """The mission's objective; while a gate closes, the learner is another at each outer step."""

    def loss_fn(theta: PyTree, task: Task, key: Array | None, step: Array | int = 0):
        objective = meta_objective(
            build_learner(config, config.ways, gates.closing(config.density, step, config.steps)),
            losses.cross_entropy,
            sparsity.l1,
            eta=config.eta,
            metrics={"accuracy": losses.accuracy},
        )
        return objective(theta, task, key, step)

    return loss_fn


def reptile_objective(config: TrainConfig) -> LossFn:
    """Reptile's surrogate."""
    network = encoder(config)
    return learners.reptile_objective(network, **inner_options(config, config.ways))


def multi_step_objective(config: TrainConfig) -> LossFn:
    """MAML++'s: all inner steps at first, exact gradients from a tenth of the way on."""
    network = encoder(config)
    build = partial(learners.maml_plus_plus, network, **inner_options(config, config.ways))
    return learners.multi_step_objective(
        build,
        multi_step_until=config.steps // 3,
        second_order_from=config.steps // 10,
        metrics={"accuracy": losses.accuracy},
    )


def pretrain_objective(config: TrainConfig) -> LossFn:
    """The rival's: all classes at once."""
    return learners.pretrain_objective(embedding(config))


def episodes(config: TrainConfig, data: datasets.ImageClasses) -> Any:
    """Few-shot tasks."""
    return tasks.episodes(
        data,
        ways=config.ways,
        shots=(config.shots, config.most_shots or config.shots),
        queries=config.queries,
        rotations=config.rotations,
        reflections=config.reflections,
        jitter=config.jitter,
    )


def class_batches(config: TrainConfig, data: datasets.ImageClasses) -> Any:
    """Batches of all classes: the rival sees as many images a step as an episodic learner does."""
    return tasks.class_batches(
        data,
        batch_size=config.ways * (config.shots + config.queries),
        rotations=config.rotations,
        reflections=config.reflections,
        jitter=config.jitter,
    )


# The registry


@dataclass(frozen=True)
class Entry:
    """A learner that `--learner` names.

    Attributes:
      build: the learner of a configuration, for so many classes, of which a share is let through.
      defaults: where its settings differ from those of its data set.
      objective: what its training lowers.
      sampler: what its training sees.
      by_gradient: whether it adapts a whole network by gradient.
      fixed_ways: whether theta holds something for each class, whatever its head.
      trains: whether there is anything to learn.
    """

    build: Build
    defaults: Mapping[str, Any] = field(default_factory=dict)
    objective: Callable[[TrainConfig], LossFn] = episodic_objective
    sampler: Callable[[TrainConfig, datasets.ImageClasses], Any] = episodes
    by_gradient: bool = False
    fixed_ways: bool = False
    trains: bool = True


_SLOW: dict[str, Any] = {
    # At the others' rate, or with 80 columns to tell apart from the start, these do not settle:
    # a hypernetwork multiplies parameters by parameters.
    "learning_rate": 3e-3,
    "ways": 20,
    "queries": 3,
    "tasks_per_step": 3,
}
_BY_GRADIENT: dict[str, Any] = {
    # Weights of each task's own: narrow episodes, a network whose convolutions allow for it.
    "network": "conv4_batch",
    "width": 32,
    "ways": 5,
    "queries": 5,
    "tasks_per_step": 4,
    "learning_rate": 3e-3,
    "weight_decay": 0.0,
    "inner_steps": 3,
    "steps": 800,
}
_IMPLICIT: dict[str, Any] = {
    # The implicit gradient is that of where a descent ends: short steps, a firm pull back, and no
    # longer training than the descent can follow (RESULTS.md).
    "inner_rate": 0.1,
    "inner_steps": 16,
    "learning_rate": 1e-3,
    "steps": 300,
}
_CONTEXT: dict[str, Any] = {
    "learning_rate": 3e-3,
    "ways": 5,
    "queries": 5,
    "tasks_per_step": 8,
    "inner_steps": 2,
    "inner_rate": 10.0,
    "steps": 480,
}
_gradient = partial(Entry, defaults=_BY_GRADIENT, by_gradient=True)
_rival = partial(Entry, objective=pretrain_objective, sampler=class_batches)

LEARNERS: dict[str, Entry] = {
    "matching": Entry(emits(learners.matching)),
    "matching_fce": Entry(
        emits(learners.matching, full_context=True), defaults=_SLOW | {"steps": 300}
    ),
    "prototypes": Entry(emits(learners.prototypes, distance="cosine")),
    "prototypes_euclidean": Entry(emits(learners.prototypes)),
    "relation": Entry(emits(learners.relation), defaults=_SLOW),
    "ridge": Entry(emits(learners.ridge)),
    "in_context": Entry(emits(building.in_context, "size"), defaults={"learning_rate": 3e-3}),
    "hypernet": Entry(emits(building.hypernet, "hidden", "gate"), defaults=_SLOW),
    "cavia": Entry(
        emits(building.cavia, "context_size", "hidden", "film", "inner_steps", "inner_rate"),
        defaults=_CONTEXT,
        fixed_ways=True,
    ),
    "maml": _gradient(descends(learners.maml)),
    "fomaml": _gradient(descends(learners.fomaml)),
    "anil": _gradient(descends(learners.anil)),
    # It has a rate for each entry of the head.
    "meta_sgd": _gradient(descends_at_learned_rates(learners.meta_sgd), fixed_ways=True),
    "imaml": _gradient(building.imaml, defaults=_BY_GRADIENT | _IMPLICIT),
    "reptile": _gradient(descends(learners.reptile), objective=reptile_objective),
    "maml_plus_plus": _gradient(
        descends_at_learned_rates(learners.maml_plus_plus), objective=multi_step_objective
    ),
    "transfer": _rival(emits(learners.transfer, "num_classes")),
    "transfer_logistic": _rival(emits(learners.transfer, "num_classes", head="logistic")),
    "nearest_neighbour": Entry(emits(building.nearest_neighbour), trains=False),
}
"""The learners that `--learner` names, in the order of the table of results."""
