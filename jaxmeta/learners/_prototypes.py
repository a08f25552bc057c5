"""Prototypical networks: `w` is one mean embedding a class."""

from typing import Literal, NamedTuple

import jax.numpy as jnp

from jaxmeta._absent import with_absent
from jaxmeta._examples import one_hot_labels, read_support
from jaxmeta.learners._similarity import closeness, unit_rows
from jaxmeta.networks._core import encoder, features_like
from jaxmeta.types import Array, Examples, MetaLearner, Network, PyTree, Task


class Prototypes(NamedTuple):
    """`w` of a prototypical network: `means [C, F]`, and how many rows each is of, int32 `[C]`."""

    means: Array
    counts: Array

    @property
    def present(self) -> Array:
        """Whether each class has rows, bool `[C]`."""
        return self.counts > 0


def class_sums(features: Array, members: Array) -> tuple[Array, Array]:
    """Sums `[C, F]` of `features [S, F]` over the members `[S, C]` of each class, and counts."""
    # Whatever a network makes of a padded row, NaN included, is in no sum.
    features = jnp.where(members.any(axis=1)[:, None], features, 0.0)
    counts = (members > 0).sum(axis=0, dtype=jnp.int32)
    return members.T.astype(features.dtype) @ features, counts


def class_means(features: Array, members: Array) -> Prototypes:
    """The mean of `features [S, F]` over the members `[S, C]` of each class; zeros for none."""
    sums, counts = class_sums(features, members)
    return Prototypes(sums / _at_least_one(counts, sums), counts)


def joined_means(w: Prototypes, more: Prototypes) -> Prototypes:
    """The means of the rows of both, as if all had been there at once."""
    total = w.counts + more.counts
    # By differences: what is added to a mean of many rows is small beside it.
    share = more.counts[:, None].astype(w.means.dtype) / _at_least_one(total, w.means)
    return Prototypes(w.means + share * (more.means - w.means), total)


def _at_least_one(counts: Array, like: Array) -> Array:
    return jnp.maximum(counts, 1).astype(like.dtype)[:, None]


def prototypes(
    network: Network,
    *,
    distance: Literal["euclidean", "cosine"] = "euclidean",
    scale: float | None = None,
    ways: int | None = None,
) -> MetaLearner:
    """Classify by the nearest class mean in a learned embedding.

        w_c = mean of network(x_i) over the support rows of class c
        z_c = -scale * |network(x) - w_c|^2        (euclidean: as in the paper)
        z_c = scale * cos(network(x), w_c)         (cosine: rows are scaled to length one first)

    Args:
      network: `[N, ...] -> [N, F]`.
      distance: `"euclidean"` or `"cosine"`.
      scale: where the learned scale starts; by default 1 / F for euclidean, 10 for cosine.
      ways: static number of columns of the logits; by default the number of support rows.

    Returns:
      A learner whose `z` is `[N, C]` logits; any number of ways and shots, theta fits them all.

    Raises:
      ValueError: for another `distance`, or a network normalised by batch statistics (wrap it in
        `networks.transductive`).

    Example:
      >>> import jax
      >>> from jaxmeta import learners, networks, tasks
      >>> task = tasks.two_tasks(shots=10, queries=6)(jax.random.key(0))
      >>> learner = learners.prototypes(networks.mlp([8]), ways=2)
      >>> theta = learner.init(jax.random.key(1), task)
      >>> w = learner.adapt(theta, task.support)
      >>> learner.predict(theta, w, task.query.x).shape
      (6, 2)

    References:
      Snell, Swersky and Zemel, Prototypical networks for few-shot learning, arXiv:1703.05175.
    """
    if distance not in ("euclidean", "cosine"):
        raise ValueError(f"prototypes knows distances 'euclidean' and 'cosine', got {distance!r}.")
    cosine = distance == "cosine"
    network = encoder(network, "prototypes")

    def embed(theta: PyTree, x: Array, key: Array | None = None) -> Array:
        features = network.apply(theta["network"], x, key=key)
        return unit_rows(features) if cosine else features

    def init(key: Array, task: Task) -> PyTree:
        params = network.init(key, task.support.x)
        num_features = features_like(network, params, task.support.x).shape[-1]
        start = scale or (10.0 if cosine else 1.0 / num_features)
        return {"network": params, "log_scale": jnp.log(jnp.float32(start))}

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> Prototypes:
        del description
        support = read_support(support, ways, network, classes_for="prototypes")
        return class_means(embed(theta, support.x, key), one_hot_labels(support, ways))

    def extend(theta: PyTree, w: Prototypes, examples: Examples) -> Prototypes:
        ways = len(w.counts)
        rows = read_support(examples, ways, network, classes_for="prototypes", may_be_empty=True)
        members = one_hot_labels(rows, ways)
        return joined_means(w, class_means(embed(theta, rows.x), members))

    def predict(theta: PyTree, w: Prototypes, x: Array) -> Array:
        features = embed(theta, x)
        if cosine:
            z = features @ unit_rows(w.means).T
        else:
            z = closeness(features, w.means, w.present)
        return with_absent(jnp.exp(theta["log_scale"]) * z, w.present)

    return MetaLearner(init, adapt, predict, extend)
