"""MAML++: a rate for each layer and inner step, and the loss after every inner step."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Unpack

import jax
import jax.numpy as jnp

from jaxmeta import inner, losses
from jaxmeta._examples import blank_padding
from jaxmeta.inner import learned_rates
from jaxmeta.learners._maml import CommonOptions, check_free, maml
from jaxmeta.types import Array, LossFn, MetaLearner, Network, PyTree, Task, TaskLoss


def maml_plus_plus(
    network: Network,
    *,
    rate: float = 0.1,
    num_steps: int = 5,
    differentiate: inner.Differentiate = "full",
    proximity: float = 0.0,
    **options: Unpack[CommonOptions],
) -> MetaLearner:
    """MAML with a learned rate for each layer and step; trained by `multi_step_objective`.

    Statistics of the support set at each step take the place of the paper's running ones. Options
    of `maml`.

    Args:
      network: the body, see `learned_init`.
      rate: where the learned rate of each layer and step starts.
      num_steps: inner steps, each with rates of its own.
      differentiate: see `fine_tune`.
      proximity: see `fine_tune`.
      **options: of `maml`, except `tx`, which holds the learned rates.

    Returns:
      A learner as `maml` returns; theta holds the rates.

    Example:
      >>> import jax
      >>> from jaxmeta import learners, networks, tasks
      >>> task = tasks.two_tasks(shots=10, queries=6)(jax.random.key(0))
      >>> learner = learners.maml_plus_plus(networks.mlp([8]), ways=2, num_steps=2)
      >>> theta = learner.init(jax.random.key(1), task)
      >>> w = learner.adapt(theta, task.support)
      >>> learner.predict(theta, w, task.query.x).shape
      (6, 2)

    References:
      Antoniou, Edwards and Storkey, How to train your MAML, arXiv:1810.09502.
    """
    check_free("maml_plus_plus", options, "tx")
    rates = learned_rates(rate, per="leaf", num_steps=num_steps)
    return maml(
        network,
        tx=rates,
        num_steps=num_steps,
        differentiate=differentiate,
        proximity=proximity,
        **options,
    )


def multi_step_objective(
    build: Callable[..., MetaLearner],
    task_loss: TaskLoss = losses.cross_entropy,
    *,
    multi_step_until: int = 0,
    second_order_from: int = 0,
    metrics: Mapping[str, TaskLoss] = MappingProxyType({}),
) -> LossFn:
    """MAML++'s objective: the query loss after every inner step, then more and more of the last.

        L = sum_k v_k(step) task_loss(predict(w_k, x_query), y_query)

    The weights v start equal and, at outer step `multi_step_until`, are all on the last. Before
    outer step `second_order_from` the inner gradients are constants.

    Args:
      build: makes the learner from the keywords `differentiate` and `trajectory` of `fine_tune`,
        such as `functools.partial(maml_plus_plus, network)`.
      task_loss: `(z, y, mask) -> scalar`.
      multi_step_until: outer steps over which the weights wander to the last inner step.
      second_order_from: outer step of the first exact gradient.
      metrics: further `(z, y, mask) -> scalar`, of the last inner step, by name.

    Returns:
      `(theta, task, key, step=0) -> (loss, metrics)`, for `make_step`.

    Raises:
      ValueError: if an outer step is negative; when traced, if the learner has no trajectory.

    Example:
      >>> import functools
      >>> import jax
      >>> from jaxmeta import learners, networks, tasks
      >>> build = functools.partial(learners.maml_plus_plus, networks.mlp([8]), ways=2, num_steps=2)
      >>> loss_fn = learners.multi_step_objective(build, multi_step_until=10)
      >>> task = tasks.two_tasks(shots=10, queries=6)(jax.random.key(0))
      >>> loss, metrics = loss_fn(build().init(jax.random.key(1), task), task, None)
      >>> loss.shape
      ()

    References:
      Antoniou, Edwards and Storkey, How to train your MAML, arXiv:1810.09502.
    """
    if multi_step_until < 0 or second_order_from < 0:
        raise ValueError(
            "multi_step_objective counts outer steps from 0, got multi_step_until="
            f"{multi_step_until}, second_order_from={second_order_from}."
        )
    exact, cheap = (build(differentiate=d, trajectory=True) for d in ("full", "first_order"))

    def losses_of(learner: MetaLearner, theta: PyTree, task: Task, key: Array | None):
        path = learner.adapt(theta, task.support, description=task.description, key=key)
        _check_path(path)
        query = blank_padding(task.query)
        z = jax.vmap(lambda w: learner.predict(theta, w, query.x))(path)
        mask = losses.answerable(z[-1], query.y, query.mask)
        report = {name: metric(z[-1], query.y, mask) for name, metric in metrics.items()}
        return jax.vmap(lambda z: task_loss(z, query.y, mask))(z), report

    def loss_fn(
        theta: PyTree, task: Task, key: Array | None, step: Array | int = 0
    ) -> tuple[Array, dict[str, Array]]:
        both = [
            lambda theta, learner=learner: losses_of(learner, theta, task, key)
            for learner in (cheap, exact)
        ]
        if second_order_from:
            each, report = jax.lax.cond(step < second_order_from, *both, theta)
        else:
            each, report = both[1](theta)
        early = jnp.maximum(0.0, 1.0 - step / multi_step_until) if multi_step_until else 0.0
        loss = (1.0 - early) * each[-1] + early * each.mean()
        return loss, report | {"loss": loss, "task_loss": each[-1]}

    return loss_fn


def _check_path(path: PyTree) -> None:
    """Raise ValueError unless every leaf has the axis of the inner steps."""
    shapes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(path)}
    if len(shapes) != 1 or shapes == {()}:
        raise ValueError(
            "multi_step_objective reads w after every inner step, stacked on one leading axis, and "
            f"got leaves with the leading axes {sorted(shapes)}: its `build` has to hand the "
            "keywords differentiate and trajectory on to fine_tune."
        )
