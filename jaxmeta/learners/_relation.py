"""Relation networks: `w` is one mean embedding a class, and the comparison is learned."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxmeta._absent import with_absent
from jaxmeta._examples import one_hot_labels, read_support
from jaxmeta.learners._prototypes import Prototypes, class_means
from jaxmeta.networks._core import encoder, features_like
from jaxmeta.networks._mlp import mlp
from jaxmeta.types import Array, Examples, MetaLearner, Network, PyTree, Task


def relation(
    network: Network, *, hidden: Sequence[int] = (64,), ways: int | None = None
) -> MetaLearner:
    """Classify by a learned comparison of the query with each class mean.

        w_c = mean of network(x_i) over the support rows of class c
        z_c = g([network(x); w_c]),   g a perceptron of one output

    The paper adds the rows of a class where this takes their mean, so that the number of shots
    may vary, and it regresses a sigmoid of z_c to 0 and 1 by squared error; here z are logits for
    cross-entropy.

    Args:
      network: `[N, ...] -> [N, F]`.
      hidden: sizes of the hidden layers of g.
      ways: static number of columns of the logits; by default the number of support rows.

    Returns:
      A learner whose `z` is `[N, C]` logits; any number of ways and shots, theta fits them all.

    Example:
      >>> import jax
      >>> from jaxmeta import learners, networks, tasks
      >>> task = tasks.two_tasks(shots=10, queries=6)(jax.random.key(0))
      >>> learner = learners.relation(networks.mlp([8]), ways=2)
      >>> theta = learner.init(jax.random.key(1), task)
      >>> w = learner.adapt(theta, task.support)
      >>> learner.predict(theta, w, task.query.x).shape
      (6, 2)

    References:
      Sung et al., Learning to compare: relation network for few-shot learning, arXiv:1711.06025.
    """
    compare = mlp([*hidden, 1])
    network = encoder(network, "relation")

    def init(key: Array, task: Task) -> PyTree:
        network_key, compare_key = jax.random.split(key)
        params = network.init(network_key, task.support.x)
        features = features_like(network, params, task.support.x)
        pairs = _pairs(features, features)
        return {"network": params, "compare": compare.init(compare_key, pairs)}

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> Prototypes:
        del description
        support = read_support(support, ways, network, classes_for="relation")
        features = network.apply(theta["network"], support.x, key=key)
        return class_means(features, one_hot_labels(support, ways))

    def predict(theta: PyTree, w: Prototypes, x: Array) -> Array:
        pairs = _pairs(network.apply(theta["network"], x), w.means)
        z = compare.apply(theta["compare"], pairs).reshape(x.shape[0], w.means.shape[0])
        return with_absent(z, w.present)

    return MetaLearner(init, adapt, predict)


def _pairs(features: Array, means: Array) -> Array:
    """Every row of `features [N, F]` beside every row of `means [C, F]`: `[N * C, 2 F]`."""
    shape = (features.shape[0], *means.shape)
    pair = [jnp.broadcast_to(features[:, None], shape), jnp.broadcast_to(means[None], shape)]
    return jnp.concatenate(pair, axis=-1).reshape(shape[0] * shape[1], 2 * means.shape[-1])
