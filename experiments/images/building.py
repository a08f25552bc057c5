"""How the learners of a few-shot run are built: `(config, ways, share) -> learner`.

`share` is that of what a gate lets through: entries of the emitted `w`, or inner updates.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from experiments.images.config import BATCH_NORMALISED, TrainConfig
from experiments.sparse import gates
from jaxmeta import MetaLearner, inner, learners, networks
from jaxmeta.types import Array, Network

ENCODERS = {
    "residual": networks.residual,
    "conv4": networks.conv4,
    "conv4_batch": partial(networks.conv4, norm="batch"),
    "pixels": lambda width: networks.identity(),
}


def encoder(config: TrainConfig) -> Network:
    """The network, in the precision asked for."""
    return networks.mixed_precision(ENCODERS[config.network](config.width), config.precision)


def embedding(config: TrainConfig) -> Network:
    """The network of a learner that embeds queries apart from the support set."""
    # By statistics of their own, if it normalises by batches; a row of results says so.
    network = encoder(config)
    return networks.transductive(network) if config.network in BATCH_NORMALISED else network


Build = Callable[[TrainConfig, int, float | Array], MetaLearner]


def emits(make: Callable[..., MetaLearner], *settings: str, **options: Any) -> Build:
    """The builder of a learner whose emitted `w` is gated.

    Args:
      make: `(network, *, ways, **settings, **options) -> learner`.
      settings: names of the settings that `make` takes from the configuration.
      options: what it takes besides, the same in each configuration.
    """

    def build(config: TrainConfig, ways: int, share: float | Array) -> MetaLearner:
        taken = {name: getattr(config, name) for name in settings}
        learner = make(embedding(config), ways=ways, **taken, **options)
        return gates.sparse(learner, config, share)

    return build


def descends(make: Callable[..., MetaLearner]) -> Build:
    """The builder of a gradient learner whose inner updates are gated."""

    def build(config: TrainConfig, ways: int, share: float | Array) -> MetaLearner:
        gate = gates.sparse_adaptation(config, share)
        return make(encoder(config), **inner_options(config, ways), **gate)

    return build


def descends_at_learned_rates(make: Callable[..., MetaLearner]) -> Build:
    """The builder of a gradient learner that learns its rates, which no gate goes with."""

    def build(config: TrainConfig, ways: int, share: float | Array) -> MetaLearner:
        if gates.gated(config):
            raise ValueError(
                f"{config.learner} learns the rates of its own descent, which no gate goes with: "
                "leave out --density and --gate, or take maml."
            )
        return descends(make)(config, ways, share)

    return build


def inner_options(config: TrainConfig, ways: int) -> dict[str, Any]:
    """The inner loop of a gradient learner."""
    return {
        "ways": ways,
        "num_steps": config.inner_steps,
        "rate": config.inner_rate,
        "statistics": config.statistics,
        "head": config.head,
    }


def normalised(network: Network) -> Network:
    """Features of unit size."""
    return networks.chain(network, networks.rms_norm())


def imaml(config: TrainConfig, ways: int, share: float | Array) -> MetaLearner:
    """MAML by the implicit gradient."""
    implicit = inner.Implicit(num_steps=config.solver_steps)
    make = partial(learners.imaml, proximity=config.proximity, differentiate=implicit)
    return descends(make)(config, ways, share)


def in_context(network: Network, **options: Any) -> MetaLearner:
    """A transformer over normalised features."""
    return learners.in_context(normalised(network), **options)


def cavia(network: Network, *, inner_steps: int, inner_rate: float, **options: Any) -> MetaLearner:
    """Fast context adaptation of normalised features."""
    return learners.cavia(normalised(network), num_steps=inner_steps, rate=inner_rate, **options)


def hypernet(network: Network, *, ways: int, hidden: tuple[int, ...], gate: str) -> MetaLearner:
    """An emitted linear learner of normalised features; layers cost points (decision 19)."""
    # A meta-net that serves every size is told which.
    source = "both" if gate == "any_size" else "support"
    return learners.hypernet(normalised(network), out_size=ways, hidden=hidden, source=source)


def nearest_neighbour(network: Network, *, ways: int) -> MetaLearner:
    """The floor: the nearest drawing by pixels, without a network."""
    return learners.nearest_neighbour(ways=ways)
