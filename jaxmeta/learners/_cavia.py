"""Fast context adaptation: `w` is a small vector that the network reads, and nothing else moves."""

from collections.abc import Sequence
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import optax

from jaxmeta import losses
from jaxmeta._absent import with_absent
from jaxmeta._examples import one_hot_labels, read_support
from jaxmeta._validation import check_positive
from jaxmeta.inner import LearnedOptimiser
from jaxmeta.learners._maml import FineTuneOptions
from jaxmeta.networks._core import encoder, features_like, takes_key
from jaxmeta.networks._mlp import mlp, mlp_apply
from jaxmeta.transforms import fine_tune
from jaxmeta.types import Array, Examples, MetaLearner, Network, PyTree, Task, TaskLoss


class Context(NamedTuple):
    """`w` of CAVIA: the context parameters `[E]`, and which outputs are in use `[C]`."""

    context: Array
    present: Array


def cavia(
    network: Network,
    *,
    context_size: int = 8,
    hidden: Sequence[int] = (64,),
    film: bool = False,
    loss: TaskLoss = losses.cross_entropy,
    tx: optax.GradientTransformation | LearnedOptimiser | None = None,
    rate: float = 1.0,
    num_steps: int = 5,
    ways: int | None = None,
    **options: Unpack[FineTuneOptions],
) -> MetaLearner:
    """Adapt a few context parameters by gradient, and share all weights between tasks.

        w_0 = 0 in R^E;   z = perceptron_theta([network_theta(x); w])
        with film:        z = perceptron_theta([network_theta(x) * (1 + A_theta w); w])

    Args:
      network: shared features, `[N, ...] -> [N, F]`; `networks.identity()` for none.
      context_size: number E of context parameters.
      hidden: sizes of the perceptron's hidden layers.
      film: let the context scale the features as well, as the paper does for images: what is only
        added cannot tell which class a feature now speaks for.
      loss: of the support set; `losses.mean_squared_error` for regression.
      tx: inner optimiser; by default gradient descent at `rate`.
      rate: its step size.
      num_steps: inner steps.
      ways: number of classes, which theta depends on; required in classification.
      **options: of `fine_tune`.

    Returns:
      A learner whose `w` is the context `[E]`; everything else is in theta.

    Raises:
      ValueError: if a classification task comes and `ways` is None, and as `fine_tune` raises it.

    Example:
      >>> import jax
      >>> from jaxmeta import learners, networks, tasks
      >>> task = tasks.two_tasks(shots=10, queries=6)(jax.random.key(0))
      >>> learner = learners.cavia(networks.identity(), ways=2)
      >>> theta = learner.init(jax.random.key(1), task)
      >>> w = learner.adapt(theta, task.support)
      >>> learner.predict(theta, w, task.query.x).shape
      (6, 2)

    References:
      Zintgraf et al., Fast context adaptation via meta-learning, arXiv:1810.03642.
    """
    check_positive(context_size=context_size)
    noisy, network = takes_key(network), encoder(network, "cavia")

    def columns(support: Examples) -> int:
        if support.y.ndim == 2:
            return support.y.shape[1]
        if ways is None:
            raise ValueError("cavia has an output for each class: say how many, ways=...")
        return ways

    def init(key: Array, task: Task) -> PyTree:
        network_key, decoder_key = jax.random.split(key)
        theta = {"network": network.init(network_key, task.support.x)}
        features = features_like(network, theta["network"], task.support.x)
        rows = jnp.zeros((1, features.shape[-1] + context_size))
        decoder = mlp([*hidden, columns(task.support)])
        if film:
            decoder_key, film_key = jax.random.split(decoder_key)
            size = (context_size, features.shape[-1])
            theta["film"] = jax.random.normal(film_key, size) / context_size**0.5
        return theta | {"decoder": decoder.init(decoder_key, rows)}

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> Context:
        del theta, description, key
        support = read_support(support, ways, network)
        present = jnp.ones(columns(support), bool)
        if support.y.ndim == 1:
            present = one_hot_labels(support, ways).sum(axis=0) > 0
        return Context(jnp.zeros(context_size), present)

    def predict(theta: PyTree, w: Context, x: Array, *, key: Array | None = None) -> Array:
        features = network.apply(theta["network"], x, key=key)
        if film:
            features = features * (1.0 + w.context @ theta["film"])[None]
        context = jnp.broadcast_to(w.context, (x.shape[0], context_size))
        rows = jnp.concatenate([features, context], axis=-1)
        return with_absent(mlp_apply(theta["decoder"], rows), w.present)

    def predict_support(theta: PyTree, w: Context, support: Examples, *, key: Array | None = None):
        return predict(theta, w, support.x, key=key), w

    if noisy:
        options = {"predict_support": predict_support, **options}
    start = MetaLearner(init, adapt, predict)
    return fine_tune(start, loss, optax.sgd(rate) if tx is None else tx, num_steps, **options)
