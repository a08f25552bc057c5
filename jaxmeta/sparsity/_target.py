"""A target density, and the Lagrange multiplier in theta that holds it."""

from collections.abc import Callable
from typing import NamedTuple, TypeGuard

import jax
import jax.numpy as jnp

from jaxmeta._precision import standard_promotion
from jaxmeta.types import Array, Examples, MetaLearner, PyTree, Task

Weight = float | Callable[[Array], Array]
"""A number, or an optax schedule of the outer step."""


class TargetDensity(NamedTuple):
    """An eta that holds the density of `w`: a Lagrange multiplier, which is a leaf of theta.

        eta = start * exp(rate * theta.log_multiplier)

    The multiplier climbs as long as the density is above its target, and comes down below it. The
    density has no gradient in `w`; what eta weighs has, and is lowered in its place: the step of a
    proximal operator (`sparsify(learner, prox, step=target)`), or a penalty (`with_multiplier`).

    Attributes:
      density: the target, in (0, 1).
      start: eta before the first outer step.
      rate: how much faster than theta log eta moves; Adam's steps are of one size for all of theta.

    References:
      Cotter, Jiang and Sridharan, Two-player games for efficient non-convex constrained
      optimization, arXiv:1804.06500.
      Gallego-Posada et al., Controlled sparsity via constrained optimization, arXiv:2208.04425.
    """

    density: float
    start: float = 1e-3
    rate: float = 1.0


class WithMultiplier(NamedTuple):
    """theta with a multiplier: the learner's own, and the multiplier's logarithm `[]`."""

    learner: PyTree
    log_multiplier: Array


def check_target(target: TargetDensity) -> None:
    """Raise ValueError unless the target can be held."""
    if not (0.0 < target.density < 1.0 and target.start > 0.0 and target.rate > 0.0):
        raise ValueError(
            f"TargetDensity needs a density in (0, 1), start and rate above zero, got {target}."
        )


def eta_at(target: TargetDensity, theta: WithMultiplier) -> Array:
    """The present eta; a constant, as nothing but the density is to move it."""
    return target.start * jnp.exp(target.rate * jax.lax.stop_gradient(theta.log_multiplier))


def check_eta(eta: Weight | TargetDensity) -> None:
    """Raise ValueError if a target cannot be held, or a number is negative."""
    if isinstance(eta, TargetDensity):
        check_target(eta)
    else:
        check_weight("eta", eta)


def check_weight(name: str, weight: Weight) -> None:
    """Raise ValueError for a number below zero."""
    if not callable(weight) and not weight >= 0:
        raise ValueError(
            f"meta_objective got {name}={weight}, but a weight of the objective must be zero "
            "or more (or an optax schedule of the outer step)."
        )


def holds_density(eta: Weight | TargetDensity) -> TypeGuard[TargetDensity]:
    """Whether eta follows the density of `w`, which has to be counted then."""
    return isinstance(eta, TargetDensity)


def at(weight: Weight, step: Array | int) -> Array | float:
    """A weight at an outer step."""
    return standard_promotion(weight)(jnp.asarray(step)) if callable(weight) else weight


def weight(eta: Weight | TargetDensity, theta: PyTree, step: Array | int) -> Array | float:
    """What the penalty weighs at an outer step.

    Raises:
      ValueError: if a density is to be held and theta has no multiplier to hold it by.
    """
    if not isinstance(eta, TargetDensity):
        return at(eta, step)
    if not isinstance(theta, WithMultiplier):
        raise ValueError(
            "eta=TargetDensity(...) needs a multiplier in theta: give the learner one, outermost, "
            "by transforms.sparsify(learner, prox, step=target) or transforms.with_multiplier."
        )
    return eta_at(eta, theta)


def ascent(target: TargetDensity, theta: WithMultiplier, density: Array) -> Array:
    """A term of value zero by whose gradient the multiplier climbs where the rest descends."""
    violation = jax.lax.stop_gradient(density / target.density - 1.0)
    return -violation * (theta.log_multiplier - jax.lax.stop_gradient(theta.log_multiplier))


def with_multiplier(learner: MetaLearner) -> MetaLearner:
    """The same learner, with a multiplier in theta for `meta_objective(eta=TargetDensity(...))`.

    The multiplier is all that holding a density has to remember from step to step. As a leaf of
    theta it is trained, saved, restored and averaged over devices like every other.

    Args:
      learner: the learner to wrap.

    Returns:
      The learner; its theta is a `WithMultiplier`.

    Example:
      >>> from jaxmeta import learners, losses, meta_objective, networks, sparsity, transforms
      >>> learner = learners.prototypes(networks.mlp([8]), ways=2)
      >>> held = transforms.with_multiplier(learner)
      >>> target = sparsity.TargetDensity(0.1)
      >>> loss_fn = meta_objective(held, losses.cross_entropy, sparsity.l1, eta=target)
    """

    def init(key: Array, task: Task) -> WithMultiplier:
        return WithMultiplier(learner.init(key, task), jnp.zeros(()))

    def adapt(
        theta: WithMultiplier,
        support: Examples,
        *,
        description: PyTree = None,
        key: Array | None = None,
    ) -> PyTree:
        return learner.adapt(theta.learner, support, description=description, key=key)

    def predict(theta: WithMultiplier, w: PyTree, x: Array) -> Array:
        return learner.predict(theta.learner, w, x)

    return MetaLearner(init, adapt, predict)
