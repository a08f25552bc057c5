"""Learning by gradient, by the names of the papers: each is `fine_tune` around a start."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from jaxmeta import inner, losses
from jaxmeta.learners.learned_init import NetworkParameters, learned_init, predict_by_head
from jaxmeta.masking import blank_padding
from jaxmeta.transforms import LearnedOptimiser, fine_tune, learned_rates
from jaxmeta.types import Array, Examples, LossFn, MetaLearner, Network, PyTree, Task, TaskLoss


def maml(
    network: Network,
    *,
    loss: TaskLoss = losses.cross_entropy,
    tx: optax.GradientTransformation | LearnedOptimiser | None = None,
    rate: float = 0.1,
    num_steps: int = 5,
    ways: int | None = None,
    head: Literal["shared", "separate"] = "shared",
    statistics: Literal["support", "query"] = "support",
    **options: Any,
) -> MetaLearner:
    """Model-agnostic meta-learning: a start from which few gradient steps go far.

    Args:
      network: the body, see `learned_init`.
      loss: of the support set; `losses.squared_error` for regression.
      tx: inner optimiser; by default gradient descent at `rate`.
      rate: its step size.
      num_steps: inner steps.
      ways: see `learned_init`.
      head: see `learned_init`.
      statistics: for a network normalised by batch statistics: `"support"` puts those of the
        support set into `w`, and predictions are inductive; `"query"` has each batch of queries
        normalised by its own, which is transductive, and what the paper did.
      **options: of `fine_tune`.

    References:
      Finn, Abbeel and Levine, Model-agnostic meta-learning, arXiv:1703.03400.
    """
    if statistics not in ("support", "query"):
        raise ValueError(f"maml takes statistics of 'support' or 'query', got {statistics!r}.")
    tuned = fine_tune(
        learned_init(network, ways=ways, head=head),
        loss,
        optax.sgd(rate) if tx is None else tx,
        num_steps,
        predict_support=_with_statistics(network),
        **options,
    )
    return tuned if statistics == "support" else _forget_statistics(network, tuned)


def fomaml(network: Network, **options: Any) -> MetaLearner:
    """First-order MAML: the inner gradients are constants. Options of `maml`.

    References:
      Finn, Abbeel and Levine, Model-agnostic meta-learning, arXiv:1703.03400, section 5.2.
    """
    return maml(network, differentiate="first_order", **options)


def anil(network: Network, **options: Any) -> MetaLearner:
    """Almost no inner loop: only the head moves. Options of `maml`.

    References:
      Raghu et al., Rapid learning or feature reuse?, arXiv:1909.09157.
    """
    return maml(network, where=_head_alone, **options)


def _head_alone(w: NetworkParameters) -> PyTree:
    choices: dict[str, Any] = {name: name == "head" for name in w._fields}
    return NetworkParameters(**choices)


def meta_sgd(network: Network, *, rate: float = 0.1, **options: Any) -> MetaLearner:
    """A learned step size, and so a learned direction, for every parameter. Options of `maml`.

    References:
      Li et al., Meta-SGD: learning to learn quickly for few-shot learning, arXiv:1707.09835.
    """
    return maml(network, tx=learned_rates(rate), **options)


def imaml(
    network: Network,
    *,
    proximity: float = 0.5,
    num_steps: int = 20,
    differentiate: inner.Differentiate = "implicit",
    **options: Any,
) -> MetaLearner:
    """Implicit MAML: the gradient of the solution, not of the way to it. Options of `maml`.

    References:
      Rajeswaran et al., Meta-learning with implicit gradients, arXiv:1909.04630.
    """
    return maml(
        network, num_steps=num_steps, differentiate=differentiate, proximity=proximity, **options
    )


def reptile(network: Network, **options: Any) -> MetaLearner:
    """MAML's adaptation, trained by `reptile_objective`. Options of `maml`.

    References:
      Nichol, Achiam and Schulman, On first-order meta-learning algorithms, arXiv:1803.02999.
    """
    return maml(network, differentiate="first_order", **options)


def reptile_objective(
    network: Network, *, num_steps: int = 5, ways: int | None = None, **options: Any
) -> LossFn:
    """The surrogate whose gradient in theta is Reptile's: `w_0 - w_K`, on support and query alike.

        L(theta) = 1/2 |w_0(theta) - stop_gradient(w_K)|^2

    Args:
      network: as `reptile` was given, and the other arguments likewise.
      num_steps: inner steps, on all rows of the task.
      ways: as `reptile` was given.
      **options: of `maml`.

    Returns:
      `(theta, task, key) -> (loss, metrics)`, for `make_step`; `accuracy` is that of the query
      rows before they are learnt from.
    """
    learner = reptile(network, num_steps=num_steps, ways=ways, **options)
    start = learned_init(network, ways=ways, head=options.get("head", "shared"))

    def loss_fn(theta: PyTree, task: Task, key: Array | None) -> tuple[Array, dict[str, Array]]:
        del key
        rows = Examples(*map(jnp.concatenate, zip(task.support, task.query, strict=True)))
        first = start.adapt(theta, rows)
        last = jax.lax.stop_gradient(learner.adapt(theta, rows))
        moved = optax.tree.sub((first.body, first.head), _without_statistics(network, last))
        loss = 0.5 * optax.tree.norm(moved, squared=True)
        return loss, {"loss": loss}

    return loss_fn


def maml_plus_plus(
    network: Network, *, rate: float = 0.1, num_steps: int = 5, **options: Any
) -> MetaLearner:
    """MAML with a learned rate for each layer and step; trained by `multi_step_objective`.

    Statistics of the support set at each step take the place of the paper's running ones. Options
    of `maml`.

    References:
      Antoniou, Edwards and Storkey, How to train your MAML, arXiv:1810.09502.
    """
    rates = learned_rates(rate, per="leaf", num_steps=num_steps)
    return maml(network, tx=rates, num_steps=num_steps, **options)


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

    References:
      Antoniou, Edwards and Storkey, How to train your MAML, arXiv:1810.09502.
    """
    exact, cheap = (build(differentiate=d, trajectory=True) for d in ("full", "first_order"))

    def losses_of(learner: MetaLearner, theta: PyTree, task: Task, key: Array | None):
        path = learner.adapt(theta, task.support, description=task.description, key=key)
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


def _with_statistics(network: Network) -> Callable[..., tuple[Array, PyTree]] | None:
    """For `fine_tune`: leaves the support set's batch statistics in w; None if there are none."""
    condition = getattr(network, "condition", None)
    if condition is None:
        return None

    def predict_support(
        theta: PyTree, w: NetworkParameters, support: Examples
    ) -> tuple[Array, NetworkParameters]:
        del theta
        features, body = condition(w.body, support.x, support.mask)
        return predict_by_head(w, features), w._replace(body=body)

    return predict_support


def _forget_statistics(network: Network, learner: MetaLearner) -> MetaLearner:
    """The transductive variant: w leaves without statistics, queries are judged by their own."""

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> PyTree:
        w = learner.adapt(theta, support, description=description, key=key)
        return w._replace(body=_without_statistics(network, w)[0])

    return learner._replace(adapt=adapt)


def _without_statistics(network: Network, w: NetworkParameters) -> tuple[PyTree, PyTree]:
    """Body and head as they were before `_with_statistics`."""
    forget = getattr(network, "forget", None)
    return (w.body if forget is None else forget(w.body)), w.head
