"""`temperature`: the same answers with probabilities that are as sure as they should be."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta._absent import is_absent, with_absent
from jaxmeta._tree import Variables
from jaxmeta.types import Array, Examples, MetaLearner, PyTree, Task


class TemperedTheta(NamedTuple):
    """theta of `temperature`: the learner's own, and the logarithm of T by that of the shots.

    Attributes:
      learner: theta of the learner.
      log_shots: where the temperature is known, rising `[B]`.
      log_temperature: what it is there `[B]`; between them on a line, beyond them as at the ends.
    """

    learner: PyTree
    log_shots: Array
    log_temperature: Array


class TemperedW(NamedTuple):
    """`w` of `temperature`: the learner's own, and what its logits are divided by, no parameter."""

    w: PyTree
    temperature: Variables


def temperature(learner: MetaLearner) -> MetaLearner:
    """Divide the logits of a classifier by a temperature T, which may depend on the shots.

        z' = z / T(shots)

    The answers stay the same, the probabilities get milder (T > 1) or surer. theta starts at T = 1;
    `evaluation.fit_temperature` sets it by validation tasks.

    Args:
      learner: a classifier.

    Returns:
      A learner whose theta is a `TemperedTheta`.

    Example:
      >>> import jax
      >>> from jaxmeta import evaluation, learners, networks, tasks, transforms
      >>> sampler = tasks.two_tasks()
      >>> learner = learners.prototypes(networks.identity(), ways=2)
      >>> theta = learner.init(jax.random.key(0), sampler(jax.random.key(1)))
      >>> key = jax.random.key(2)
      >>> theta = evaluation.fit_temperature(learner, theta, sampler, key=key, num_tasks=50)
      >>> evaluation.evaluate(transforms.temperature(learner), theta, sampler, key=key).num_tasks
      1000

    References:
      Guo et al., On calibration of modern neural networks, arXiv:1706.04599.
    """

    def init(key: Array, task: Task) -> TemperedTheta:
        return TemperedTheta(learner.init(key, task), jnp.zeros(1), jnp.zeros(1))

    def adapt(
        theta: TemperedTheta,
        support: Examples,
        *,
        description: PyTree = None,
        key: Array | None = None,
    ) -> TemperedW:
        w = learner.adapt(theta.learner, support, description=description, key=key)
        knots = jax.lax.stop_gradient(theta.log_shots)
        value = jnp.interp(log_shots(support), knots, theta.log_temperature)
        return TemperedW(w, Variables({"value": jnp.exp(value)}, constants={"value"}))

    def predict(theta: TemperedTheta, w: TemperedW, x: Array) -> Array:
        z = learner.predict(theta.learner, w.w, x)
        return with_absent(z / w.temperature["value"].astype(z.dtype), ~is_absent(z))

    return MetaLearner(init, adapt, predict)


def log_shots(support: Examples) -> Array:
    """The logarithm of the mean number of rows of the classes that have any, `[]`."""
    mask = support.mask.astype(bool)
    # Sorted, with padding as -1 in front, a class begins wherever the number changes.
    y = jnp.sort(jnp.where(mask, support.y, -1))
    classes = jnp.diff(y, prepend=-1) != 0
    return jnp.log(jnp.maximum(mask.sum() / jnp.maximum(classes.sum(), 1), 1.0))
