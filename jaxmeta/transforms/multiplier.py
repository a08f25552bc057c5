"""A target density, and the Lagrange multiplier in theta that holds it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.types import Array, Examples, MetaLearner, PyTree, Task


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


class Multiplied(NamedTuple):
    """theta with a multiplier: the learner's own, and the multiplier's logarithm `[]`."""

    learner: PyTree
    log_multiplier: Array


def check_target(target: TargetDensity) -> None:
    """Raise ValueError unless the target can be held."""
    if not (0.0 < target.density < 1.0 and target.start > 0.0 and target.rate > 0.0):
        raise ValueError(
            f"TargetDensity needs a density in (0, 1), start and rate above zero, got {target}."
        )


def eta_of(target: TargetDensity, theta: Multiplied) -> Array:
    """The present eta; a constant, as nothing but the density is to move it."""
    return target.start * jnp.exp(target.rate * jax.lax.stop_gradient(theta.log_multiplier))


def with_multiplier(learner: MetaLearner) -> MetaLearner:
    """The same learner, with a multiplier in theta for `meta_objective(eta=TargetDensity(...))`.

    The multiplier is all that holding a density has to remember from step to step. As a leaf of
    theta it is trained, saved, restored and averaged over devices like every other.
    """

    def init(key: Array, task: Task) -> Multiplied:
        return Multiplied(learner.init(key, task), jnp.zeros(()))

    def adapt(
        theta: Multiplied,
        support: Examples,
        *,
        description: PyTree = None,
        key: Array | None = None,
    ) -> PyTree:
        return learner.adapt(theta.learner, support, description=description, key=key)

    def predict(theta: Multiplied, w: PyTree, x: Array) -> Array:
        return learner.predict(theta.learner, w, x)

    return MetaLearner(init, adapt, predict)
