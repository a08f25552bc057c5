"""Learning by gradient, by the names of the papers: each is `fine_tune` around a start."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from jaxmeta import inner, losses
from jaxmeta.learners.learned_init import Head, NetworkParameters, learned_init, predict_by_head
from jaxmeta.networks.base import as_pair, encoder, takes_key
from jaxmeta.transforms import LearnedOptimiser, fine_tune, learned_rates
from jaxmeta.types import Array, Examples, LossFn, MetaLearner, Network, PyTree, Task, TaskLoss
from jaxmeta.validation import check_examples


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

    Raises:
      ValueError: if a setting does not exist, or the gradient is implicit and `proximity` is zero:
        it does not see the start, and the start is all that theta is.

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


def fomaml(network: Network, **options: Any) -> MetaLearner:
    """First-order MAML: the inner gradients are constants. Options of `maml`.

    References:
      Finn, Abbeel and Levine, Model-agnostic meta-learning, arXiv:1703.03400, section 5.2.
    """
    _check_free("fomaml", options, "differentiate")
    return maml(network, differentiate="first_order", **options)


def anil(network: Network, **options: Any) -> MetaLearner:
    """Almost no inner loop: only the head moves. Options of `maml`.

    References:
      Raghu et al., Rapid learning or feature reuse?, arXiv:1909.09157.
    """
    _check_free("anil", options, "where")
    return maml(network, where=_head_alone, **options)


def _head_alone(w: NetworkParameters) -> PyTree:
    choices: dict[str, Any] = {name: name == "head" for name in w._fields}
    return NetworkParameters(**choices)


def meta_sgd(network: Network, *, rate: float = 0.1, **options: Any) -> MetaLearner:
    """A learned step size, and so a learned direction, for every parameter. Options of `maml`.

    References:
      Li et al., Meta-SGD: learning to learn quickly for few-shot learning, arXiv:1707.09835.
    """
    _check_free("meta_sgd", options, "tx")
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

    Raises:
      ValueError: for options of parameters that would not learn: a `LearnedOptimiser`, since
        the objective does not see the steps, and `where`, since what does not move has no update.

    References:
      Nichol, Achiam and Schulman, On first-order meta-learning algorithms, arXiv:1803.02999.
    """
    _check_free("reptile", options, "differentiate")
    if isinstance(options.get("tx"), LearnedOptimiser):
        raise ValueError(
            "Reptile moves theta towards the adapted weights whatever way led there: the "
            "parameters of tx would not learn. Give it an optax optimiser, or take maml."
        )
    if options.get("where") is not None:
        raise ValueError(
            "Reptile moves theta where the inner steps move w: what `where` leaves out would not "
            "learn. Leave it out, or take maml(where=...)."
        )
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

    Raises:
      ValueError: as `reptile`, and for `trajectory`: the objective reads the last step.
    """
    _check_free("reptile_objective", options, "trajectory")
    learner = reptile(network, num_steps=num_steps, ways=ways, **options)
    start = learned_init(network, ways=ways, head=options.get("head", "shared"))

    def loss_fn(theta: PyTree, task: Task, key: Array | None) -> tuple[Array, dict[str, Array]]:
        del key
        check_examples(task.query, "query", ways=ways, takes_integers=True)
        check_examples(task.support, ways=ways, takes_integers=True)
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
    _check_free("maml_plus_plus", options, "tx")
    rates = learned_rates(rate, per="leaf", num_steps=num_steps)
    return maml(network, tx=rates, num_steps=num_steps, **options)


def _check_free(name: str, options: Mapping[str, Any], *settled: str) -> None:
    """Raise ValueError if the options hold what the learner of that name settles itself."""
    for option in settled:
        if option in options:
            raise ValueError(
                f"{name} settles {option} itself, and was given {option}={options[option]!r}: "
                f"leave it out, or choose it in maml."
            )


def _support_prediction(network: Network) -> Callable[..., tuple[Array, PyTree]] | None:
    """For `fine_tune`: draws noise, and leaves the support set's batch statistics in w.

    None for a network without either.
    """
    pair = encoder(network)
    if pair.condition is None and not takes_key(network):
        return None

    def predict_support(
        theta: PyTree, w: NetworkParameters, support: Examples, *, key: Array | None = None
    ) -> tuple[Array, NetworkParameters]:
        del theta
        if pair.condition is None:
            return predict_by_head(w, pair.apply(w.body, support.x, key=key)), w
        features, body = pair.condition(w.body, support.x, support.mask, key=key)
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
    """Body and head as they were before the statistics were kept."""
    forget = as_pair(network).forget
    return (w.body if forget is None else forget(w.body)), w.head
