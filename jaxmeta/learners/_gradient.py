"""Relatives of MAML: each is `maml` with some of its options settled."""

from typing import Any, Unpack

import optax

from jaxmeta import inner
from jaxmeta.inner import LearnedOptimiser, learned_rates
from jaxmeta.learners._learned_init import NetworkParameters
from jaxmeta.learners._maml import CommonOptions, MamlOptions, check_free, maml
from jaxmeta.types import MetaLearner, Network, PyTree


def fomaml(network: Network, **options: Unpack[MamlOptions]) -> MetaLearner:
    """Drop the second derivatives of MAML: the inner gradients are constants.

    Args:
      network: the body, see `learned_init`.
      **options: of `maml`, except `differentiate`, which is `"first_order"`.

    Returns:
      A learner as `maml` returns.

    Example:
      >>> import jax
      >>> from jaxmeta import learners, networks, tasks
      >>> task = tasks.two_tasks(shots=10, queries=6)(jax.random.key(0))
      >>> learner = learners.fomaml(networks.mlp([8]), ways=2, num_steps=2)
      >>> theta = learner.init(jax.random.key(1), task)
      >>> w = learner.adapt(theta, task.support)
      >>> learner.predict(theta, w, task.query.x).shape
      (6, 2)

    References:
      Finn, Abbeel and Levine, Model-agnostic meta-learning, arXiv:1703.03400, section 5.2.
    """
    check_free("fomaml", options, "differentiate")
    return maml(network, differentiate="first_order", **options)


def anil(network: Network, **options: Unpack[MamlOptions]) -> MetaLearner:
    """Adapt the head alone, and learn the body as MAML does: almost no inner loop.

    Args:
      network: the body, see `learned_init`.
      **options: of `maml`, except `where`, which chooses the head.

    Returns:
      A learner as `maml` returns.

    Example:
      >>> import jax
      >>> from jaxmeta import learners, networks, tasks
      >>> task = tasks.two_tasks(shots=10, queries=6)(jax.random.key(0))
      >>> learner = learners.anil(networks.mlp([8]), ways=2, num_steps=2)
      >>> theta = learner.init(jax.random.key(1), task)
      >>> w = learner.adapt(theta, task.support)
      >>> learner.predict(theta, w, task.query.x).shape
      (6, 2)

    References:
      Raghu et al., Rapid learning or feature reuse?, arXiv:1909.09157.
    """
    check_free("anil", options, "where")
    return maml(network, where=_head_alone, **options)


def _head_alone(w: NetworkParameters) -> PyTree:
    choices: dict[str, Any] = {name: name == "head" for name in w._fields}
    return NetworkParameters(**choices)


def meta_sgd(
    network: Network,
    *,
    rate: float = 0.1,
    num_steps: int = 5,
    differentiate: inner.Differentiate = "full",
    proximity: float = 0.0,
    **options: Unpack[CommonOptions],
) -> MetaLearner:
    """Learn a step size, and so a direction, for every parameter beside MAML's start.

    Args:
      network: the body, see `learned_init`.
      rate: where all step sizes start.
      num_steps: inner steps.
      differentiate: see `fine_tune`.
      proximity: see `fine_tune`.
      **options: of `maml`, except `tx`, which holds the learned step sizes.

    Returns:
      A learner as `maml` returns; theta holds the step sizes.

    Example:
      >>> import jax
      >>> from jaxmeta import learners, networks, tasks
      >>> task = tasks.two_tasks(shots=10, queries=6)(jax.random.key(0))
      >>> learner = learners.meta_sgd(networks.mlp([8]), ways=2, num_steps=2)
      >>> theta = learner.init(jax.random.key(1), task)
      >>> w = learner.adapt(theta, task.support)
      >>> learner.predict(theta, w, task.query.x).shape
      (6, 2)

    References:
      Li et al., Meta-SGD: learning to learn quickly for few-shot learning, arXiv:1707.09835.
    """
    check_free("meta_sgd", options, "tx")
    return maml(
        network,
        tx=learned_rates(rate),
        num_steps=num_steps,
        differentiate=differentiate,
        proximity=proximity,
        **options,
    )


def imaml(
    network: Network,
    *,
    proximity: float = 0.5,
    num_steps: int = 20,
    differentiate: inner.Differentiate = "implicit",
    tx: optax.GradientTransformation | LearnedOptimiser | None = None,
    rate: float = 0.1,
    **options: Unpack[CommonOptions],
) -> MetaLearner:
    """Differentiate the inner solution instead of the steps that lead to it (implicit MAML).

    Args:
      network: the body, see `learned_init`.
      proximity: weight of half the squared distance between `w` and its start, which the inner loss
        gains; the implicit gradient needs it above zero.
      num_steps: inner steps; enough of them that `w` is nearly the solution.
      differentiate: `"implicit"`, or `inner.Implicit(...)` with the settings of its solver.
      tx: inner optimiser; by default gradient descent at `rate`.
      rate: its step size.
      **options: of `maml`.

    Returns:
      A learner as `maml` returns.

    Example:
      >>> import jax
      >>> from jaxmeta import learners, networks, tasks
      >>> task = tasks.two_tasks(shots=10, queries=6)(jax.random.key(0))
      >>> learner = learners.imaml(networks.mlp([8]), ways=2, num_steps=2)
      >>> theta = learner.init(jax.random.key(1), task)
      >>> w = learner.adapt(theta, task.support)
      >>> learner.predict(theta, w, task.query.x).shape
      (6, 2)

    References:
      Rajeswaran et al., Meta-learning with implicit gradients, arXiv:1909.04630.
    """
    return maml(
        network,
        tx=tx,
        rate=rate,
        num_steps=num_steps,
        differentiate=differentiate,
        proximity=proximity,
        **options,
    )
