"""`sparsify`: the same learner, but `w` leaves `adapt` with exact zeros; at one size, or at any."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.sparsity import Gate, Per, top_k
from jaxmeta.sparsity._gates import check_least, draw_share
from jaxmeta.sparsity._target import (
    TargetDensity,
    WithMultiplier,
    check_target,
    eta_at,
    with_multiplier,
)
from jaxmeta.types import Array, Examples, MetaLearner, Prox, PyTree, Task


class GatedTheta(NamedTuple):
    """theta of `sparsify` with a gate that learns; with a plain `prox` it is the learner's own."""

    learner: PyTree
    gate: PyTree


def sparsify(
    learner: MetaLearner, gate: Prox | Gate, *, step: float | TargetDensity = 1.0
) -> MetaLearner:
    """Put a proximal operator, or a gate with parameters of its own, behind `adapt`.

    The zeros are part of the function that is trained: the gradient flows through the entries
    that survive, and theta learns to emit a `w` that is right once it is sparse.

    Args:
      learner: the learner to wrap; with a `prox` its theta serves the sparse one and the other way
        round.
      gate: `prox(w, step) -> w`, or a `Gate`; see `jaxmeta.sparsity`.
      step: handed to `prox`: the threshold of `soft_threshold`. A `TargetDensity` has it follow a
        multiplier in theta, which `meta_objective(eta=...)` with the same target moves.

    Raises:
      ValueError: if the step is negative, cannot be held, or is given to a gate.

    Example:
      >>> from jaxmeta import learners, networks, sparsity, transforms
      >>> learner = learners.prototypes(networks.mlp([8]), ways=2)
      >>> sparse = transforms.sparsify(learner, sparsity.top_k(0.1))
    """
    if isinstance(gate, Gate):
        if step != 1.0:
            raise ValueError(
                f"sparsify hands a step to an operator; this gate has parameters of its own and "
                f"reads none, got step={step}. Hold its density by transforms.with_multiplier."
            )
        return _with_gate(learner, gate)
    if isinstance(step, TargetDensity):
        return _at_density(learner, gate, step)
    if not step >= 0:
        raise ValueError(f"sparsify needs a step of zero or more, got {step}.")

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> PyTree:
        return gate(learner.adapt(theta, support, description=description, key=key), step)

    return learner._replace(adapt=adapt, extend=None)


def _at_density(learner: MetaLearner, prox: Prox, target: TargetDensity) -> MetaLearner:
    check_target(target)
    held = with_multiplier(learner)

    def adapt(
        theta: WithMultiplier,
        support: Examples,
        *,
        description: PyTree = None,
        key: Array | None = None,
    ) -> PyTree:
        w = held.adapt(theta, support, description=description, key=key)
        return prox(w, eta_at(target, theta))

    return held._replace(adapt=adapt, extend=None)


def _with_gate(learner: MetaLearner, gate: Gate) -> MetaLearner:
    def init(key: Array, task: Task) -> GatedTheta:
        theta = learner.init(key, task)
        w = learner.adapt(theta, task.support, description=task.description)
        return GatedTheta(theta, gate.init(w))

    def adapt(
        theta: GatedTheta,
        support: Examples,
        *,
        description: PyTree = None,
        key: Array | None = None,
    ) -> PyTree:
        key, gate_key = (None, None) if key is None else jax.random.split(key)
        w = learner.adapt(theta.learner, support, description=description, key=key)
        return gate.apply(theta.gate, w, gate_key)

    def predict(theta: GatedTheta, w: PyTree, x: Array) -> Array:
        return learner.predict(theta.learner, w, x)

    return MetaLearner(init, adapt, predict)


def nested_sparsity(
    learner: MetaLearner, share: float | Array, *, least: float, per: Per = "all"
) -> MetaLearner:
    """One theta for every size of `w`: top-k of a share that is drawn for each task, and told.

        log share ~ Uniform(log least, 0) in training, where there is a key; else as given
        w = top_k(share)(adapt(theta, support, [description, log share / log least]))

    A meta-net that reads descriptions (a hypernetwork with `source="description"` or `"both"`)
    learns to emit another `w` for each size. Learners that do not, such as embeddings, learn to put
    into the largest entries what matters most: a smaller `w` is part of a larger one.

    Args:
      learner: the learner to wrap; it finds its description one number longer.
      share: share of the entries that is kept without a key; may be a traced number. theta does not
        depend on it.
      least: the smallest share that is drawn.
      per: what is ranked, see `sparsity.top_k`.

    Returns:
      A learner whose theta is the learner's own.

    Example:
      >>> from jaxmeta import learners, networks, transforms
      >>> learner = learners.prototypes(networks.mlp([8]), ways=2)
      >>> nested = transforms.nested_sparsity(learner, 0.1, least=0.05)

    References:
      Kusupati et al., Matryoshka representation learning, arXiv:2205.13147.
    """
    check_least(least)
    top_k(share, per=per)  # refuses what it cannot keep, now

    def told(description: PyTree, share: float | Array) -> Array:
        size = jnp.reshape(jnp.log(jnp.float32(share)) / math.log(least), (1,))
        if description is None:
            return size
        return jnp.concatenate([jnp.asarray(description, jnp.float32).ravel(), size])

    def init(key: Array, task: Task) -> PyTree:
        return learner.init(key, task._replace(description=told(task.description, 1.0)))

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> PyTree:
        kept = share
        if key is not None:
            key, size_key = jax.random.split(key)
            kept = draw_share(size_key, least)
        w = learner.adapt(theta, support, description=told(description, kept), key=key)
        return top_k(kept, per=per)(w, 1.0)

    return learner._replace(init=init, adapt=adapt, extend=None)
