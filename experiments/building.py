"""From a configuration to what the outer loop needs: network, learner, objective, optimiser."""

from functools import partial
from typing import Any

import optax

from experiments import gating
from experiments.configuration import BATCH_NORMALISED, GRADIENT, TrainConfig
from experiments.training_loop import skip_faults
from jaxmeta import (
    MetaLearner,
    inner,
    learners,
    losses,
    meta_objective,
    networks,
    sparsity,
    tasks,
)
from jaxmeta.types import Array, LossFn, Network, PyTree, Task

ENCODERS = {
    "residual": networks.residual,
    "conv4": networks.conv4,
    "conv4_batch": partial(networks.conv4, norm="batch"),
}
GRADIENT_LEARNERS = {
    "maml": learners.maml,
    "fomaml": learners.fomaml,
    "anil": learners.anil,
    "meta_sgd": learners.meta_sgd,
    "imaml": learners.imaml,
    "reptile": learners.reptile,
    "maml_plus_plus": learners.maml_plus_plus,
}


def build_network(config: TrainConfig) -> Network:
    """The embedding, in the precision asked for."""
    network = networks.in_precision(ENCODERS[config.network](config.width), config.precision)
    if config.network in BATCH_NORMALISED and config.learner not in GRADIENT:
        # These learners embed queries apart from the support set; a row of results says so.
        return networks.transductive(network)
    return network


def build_learner(
    config: TrainConfig, ways: int, density: float | Array | None = None
) -> MetaLearner:
    """The learner of a configuration for tasks of up to `ways` classes.

    `density` takes the place of the configuration's own, while the gate is closing.
    """
    network = build_network(config)
    build = {
        "matching": lambda: learners.matching(network, ways=ways),
        "matching_fce": lambda: learners.matching(network, full_context=True, ways=ways),
        "prototypes": lambda: learners.prototypes(network, distance="cosine", ways=ways),
        "prototypes_euclidean": lambda: learners.prototypes(network, ways=ways),
        "relation": lambda: learners.relation(network, ways=ways),
        "ridge": lambda: learners.ridge(network, ways=ways),
        "in_context": lambda: learners.in_context(
            networks.chain(network, networks.rms_norm()), size=config.size, ways=ways
        ),
        "cavia": lambda: learners.cavia(
            networks.chain(network, networks.rms_norm()),
            context_size=config.context_size,
            hidden=config.hidden,
            film=config.film,
            ways=ways,
            num_steps=config.inner_steps,
            rate=config.inner_rate,
        ),
        "hypernet": lambda: learners.hypernet(
            # By default a linear learner of all features: layers cost points (BUILD_NOTES.md).
            networks.chain(network, networks.rms_norm()),
            out_size=ways,
            hidden=config.hidden,
            # A meta-net that serves every size is told which.
            source="both" if config.gate == "any_size" else "support",
        ),
        "transfer": lambda: learners.transfer(network, num_classes=config.num_classes, ways=ways),
        "transfer_logistic": lambda: learners.transfer(
            network, num_classes=config.num_classes, head="logistic", ways=ways
        ),
        "nearest_neighbour": lambda: learners.nearest_neighbour(ways=ways),
    }
    share = config.density if density is None else density
    if config.learner in ("meta_sgd", "maml_plus_plus") and gating.gated(config):
        raise ValueError(
            f"{config.learner} learns the rates of its own descent, which no gate goes with: leave "
            "out --density and --gate, or take maml."
        )
    if config.learner in GRADIENT:
        return GRADIENT_LEARNERS[config.learner](
            network, **inner_options(config, ways), **gating.sparse_adaptation(config, share)
        )
    return gating.sparse(build[config.learner](), config, share)


def inner_options(config: TrainConfig, ways: int) -> dict[str, Any]:
    """The inner loop of a gradient learner."""
    implicit = {
        "proximity": config.proximity,
        "differentiate": inner.Implicit(num_steps=config.solver_steps),
    }
    return {
        "ways": ways,
        "num_steps": config.inner_steps,
        "rate": config.inner_rate,
        "statistics": config.statistics,
        "head": config.head,
        **(implicit if config.learner == "imaml" else {}),
    }


def build_training(config: TrainConfig, data: tasks.ImageClasses):
    """What the outer loop needs: `(learner, loss_fn, sampler, tx)`."""
    learner = build_learner(config, config.ways)
    if config.learner.startswith("transfer"):
        # The rival sees as many images a step as an episodic learner does.
        loss_fn = learners.pretrain_objective(build_network(config))
        sampler = tasks.class_batches(
            data,
            batch_size=config.ways * (config.shots + config.queries),
            rotations=config.rotations,
            reflections=config.reflections,
            jitter=config.jitter,
        )
    else:
        loss_fn = OBJECTIVES.get(config.learner, episodic_objective)(config)
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
            build_learner(config, config.ways, gating.closing(config.density, step, config.steps)),
            losses.cross_entropy,
            sparsity.l1,
            eta=config.eta,
            metrics={"accuracy": losses.accuracy},
        )
        return objective(theta, task, key, step)

    return loss_fn


def reptile_objective(config: TrainConfig) -> LossFn:
    """Reptile's surrogate."""
    network = build_network(config)
    return learners.reptile_objective(network, **inner_options(config, config.ways))


def multi_step_objective(config: TrainConfig) -> LossFn:
    """MAML++'s: all inner steps at first, exact gradients from a tenth of the way on."""
    network = build_network(config)
    build = partial(learners.maml_plus_plus, network, **inner_options(config, config.ways))
    return learners.multi_step_objective(
        build,
        multi_step_until=config.steps // 3,
        second_order_from=config.steps // 10,
        metrics={"accuracy": losses.accuracy},
    )


OBJECTIVES = {"reptile": reptile_objective, "maml_plus_plus": multi_step_objective}


def outer_optimiser(config: TrainConfig) -> optax.GradientTransformation:
    """AdamW with a short warm-up and a cosine to zero; no step where the gradient is not finite."""
    warm_up = min(50, max(1, config.steps // 10))
    # No schedule is as short as no step, or as one.
    steps = max(2, config.steps)
    schedule = optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warm_up, steps)
    return skip_faults(optax.adamw(schedule, weight_decay=config.weight_decay))
