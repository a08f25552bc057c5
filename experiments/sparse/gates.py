"""Sparsity by name: how a few-shot learner's `w`, or what moves in it, is kept to a density."""

from typing import Any

import jax.numpy as jnp
import optax

from experiments.images.config import TrainConfig
from jaxmeta import MetaLearner, inner, sparsity, transforms
from jaxmeta.types import Array, PyTree


def closing(density: float, step: Array | int, steps: int) -> Array:
    """The density at an outer step: from 1 down to the given one, halfway through training.

    A `w` that is sparse from the start learns slowly: few entries have a gradient.
    """
    return density ** jnp.minimum(1.0, 2.0 * jnp.asarray(step, jnp.float32) / max(1, steps))


def gated(config: TrainConfig) -> bool:
    """Whether anything is to be kept sparse."""
    return config.gate == "any_size" or config.density != 1.0


def sparse(learner: MetaLearner, config: TrainConfig, share: float | Array) -> MetaLearner:
    """The learner whose `w` keeps a share of its entries, by the configuration's gate."""
    if config.gate == "any_size":
        return transforms.nested_sparsity(learner, share, least=config.least, per=config.per)
    if not gated(config):
        return learner
    return transforms.sparsify(learner, sparsity.top_k(share, per=config.per))


def sparse_adaptation(config: TrainConfig, share: float | Array) -> dict[str, Any]:
    """Options of a gradient learner of which a share of the body's weights moves, and the head."""
    if not gated(config):
        return {}
    least = config.least if config.gate == "any_size" else None
    return {"tx": moving_share(optax.sgd(config.inner_rate), share, least=least)}


def moving_share(
    tx: optax.GradientTransformation, share: float | Array, *, least: float | None
) -> inner.LearnedOptimiser:
    """Descent of the head, and of the learned share of the body that it pays to move."""
    return inner.masked_updates(
        tx, sparsity.masked(sparsity.score_top_k(share, least=least), body_alone)
    )


def body_alone(w: PyTree) -> PyTree:
    """The body is gated; the head is of each task's own classes, and has as many columns."""
    return w._replace(body=True, head=False, present=False)
