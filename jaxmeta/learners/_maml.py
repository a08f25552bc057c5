"""Model-agnostic meta-learning, and the options that its relatives share with it."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict, Unpack

import optax

from jaxmeta import inner, losses
from jaxmeta.inner import LearnedOptimiser
from jaxmeta.learners._learned_init import Head, NetworkParameters, learned_init, predict_by_head
from jaxmeta.networks._core import as_pair, encoder, takes_key
from jaxmeta.transforms import fine_tune
from jaxmeta.types import Array, Examples, MetaLearner, Network, PyTree, TaskLoss


class CommonOptions(TypedDict, total=False):
    """Options of `maml` that all of its relatives take, so that editors and checkers know them."""

    loss: TaskLoss
    ways: int | None
    head: Head
    statistics: Literal["support", "query"]
    where: Callable[[PyTree], PyTree] | None
    count: Callable[[Examples], Array] | None
    tolerance: float
    trajectory: bool


class MamlOptions(CommonOptions, total=False):
    """All options of `maml`."""

    tx: optax.GradientTransformation | LearnedOptimiser | None
    rate: float
    num_steps: int
    differentiate: inner.Differentiate
    proximity: float


class FineTuneOptions(TypedDict, total=False):
    """The options of `fine_tune` that learners hand on."""

    differentiate: inner.Differentiate
    proximity: float
    where: Callable[[PyTree], PyTree] | None
    count: Callable[[Examples], Array] | None
    tolerance: float
    predict_support: Callable[..., tuple[Array, PyTree]] | None
    trajectory: bool


def maml(
    network: Network,
    *,
    loss: TaskLoss = losses.cross_entropy,
    tx: optax.GradientTransformation | LearnedOptimiser | None = None,
    rate: float = 0.1,
    num_steps: int = 5,
    ways: int | None = None,
    head: Head = "shared",
    statistics: Literal["support", "query"] = "support",
    **options: Unpack[FineTuneOptions],
) -> MetaLearner:
    """Model-agnostic meta-learning: a start from which few gradient steps go far.

    Args:
      network: the body, see `learned_init`.
      loss: of the support set; `losses.mean_squared_error` for regression.
      tx: inner optimiser; by default gradient descent at `rate`.
      rate: its step size.
      num_steps: inner steps.
      ways: see `learned_init`.
      head: see `learned_init`.
      statistics: for a network normalised by batch statistics: `"support"` puts those of the
        support set into `w`, and predictions are inductive; `"query"` has each batch of queries
        normalised by its own, which is transductive, and what the paper did.
      **options: of `fine_tune`.

    Raises:
      ValueError: if a setting does not exist, or the gradient is implicit and `proximity` is zero:
        it does not see the start, and the start is all that theta is.

    Returns:
      A learner whose `w` is the network and its head after the inner steps.

    Example:
      >>> import jax
      >>> from jaxmeta import learners, networks, tasks
      >>> task = tasks.two_tasks(shots=10, queries=6)(jax.random.key(0))
      >>> learner = learners.maml(networks.mlp([8]), ways=2, rate=0.1, num_steps=2)
      >>> theta = learner.init(jax.random.key(1), task)
      >>> w = learner.adapt(theta, task.support)
      >>> learner.predict(theta, w, task.query.x).shape
      (6, 2)

    References:
      Finn, Abbeel and Levine, Model-agnostic meta-learning, arXiv:1703.03400.
    """
    mode = inner.resolve(options.get("differentiate", "full"))
    if isinstance(mode, inner.Implicit) and options.get("proximity", 0.0) == 0:
        raise ValueError(
            "differentiate='implicit' with proximity=0 cannot learn a start: the implicit gradient "
            "does not see it, unless a proximal term ties the solution to it. Give proximity a "
            "value above zero (imaml has 0.5), or differentiate otherwise."
        )
    if statistics not in ("support", "query"):
        raise ValueError(f"maml takes statistics of 'support' or 'query', got {statistics!r}.")
    tuned = fine_tune(
        learned_init(network, ways=ways, head=head),
        loss,
        optax.sgd(rate) if tx is None else tx,
        num_steps,
        predict_support=_support_prediction(network),
        **options,
    )
    return tuned if statistics == "support" else _forget_statistics(network, tuned)


def _support_prediction(network: Network) -> Callable[..., tuple[Array, PyTree]] | None:
    """For `fine_tune`: draws noise, and leaves the support set's batch statistics in w.

    None for a network without either.
    """
    pair = encoder(network)
    if pair.with_statistics is None and not takes_key(network):
        return None

    def predict_support(
        theta: PyTree, w: NetworkParameters, support: Examples, *, key: Array | None = None
    ) -> tuple[Array, NetworkParameters]:
        del theta
        if pair.with_statistics is None:
            return predict_by_head(w, pair.apply(w.body, support.x, key=key)), w
        features, body = pair.with_statistics(w.body, support.x, support.mask, key=key)
        return predict_by_head(w, features), w._replace(body=body)

    return predict_support


def _forget_statistics(network: Network, learner: MetaLearner) -> MetaLearner:
    """The transductive variant: w leaves without statistics, queries are judged by their own."""

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> PyTree:
        w = learner.adapt(theta, support, description=description, key=key)
        return w._replace(body=without_statistics(network, w)[0])

    return learner._replace(adapt=adapt, extend=None)


def without_statistics(network: Network, w: NetworkParameters) -> tuple[PyTree, PyTree]:
    """Body and head as they were before the statistics were kept."""
    forget = as_pair(network).without_statistics
    return (w.body if forget is None else forget(w.body)), w.head


def check_free(name: str, options: Mapping[str, Any], *settled: str) -> None:
    """Raise ValueError if the options hold what the learner of that name settles itself."""
    for option in settled:
        if option in options:
            raise ValueError(
                f"{name} settles {option} itself, and was given {option}={options[option]!r}: "
                f"leave it out, or choose it in maml."
            )
