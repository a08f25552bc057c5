"""A learned initialisation: `w_0` is theta itself, for `fine_tune` to start from."""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from jaxmeta._absent import with_absent
from jaxmeta._examples import one_hot_labels, read_support
from jaxmeta.learners._prototypes import class_means
from jaxmeta.networks._core import encoder, features_like
from jaxmeta.networks._mlp import dense, dense_init
from jaxmeta.types import Array, Examples, MetaLearner, Network, PyTree, Task

Head = Literal["shared", "separate", "prototypes"]
"""Where the head of `learned_init` starts."""


class NetworkParameters(NamedTuple):
    """`w`: a whole network, `body` and `head` (`kernel [F, C]`, `bias [C]`), and classes in use."""

    body: PyTree
    head: dict[str, Array]
    present: Array


def learned_init(
    network: Network,
    *,
    ways: int | None = None,
    head: Head = "shared",
) -> MetaLearner:
    """Start every task from the same parameters: `fine_tune` around it is MAML.

        w_0 = theta;   z = head_w(network_w(x))

    Args:
      network: `[N, ...] -> [N, F]`, the body; a dense head comes on top.
      ways: static number of classes; by default the number of support rows. Regression, which has
        as many outputs as targets, does not read it.
      head: in classification, `"shared"` starts all classes from one learned column: no class is
        special, and theta fits any number of ways; but as all columns are equal, the first
        gradient step moves the head alone, and one step is ANIL. `"separate"` learns a column for
        each, as MAML did; theta then fits `ways` classes only. `"prototypes"` starts each column
        from the mean feature m_c of its class, so that the first step moves the body too, and
        theta fits any number of ways: `z_c = scale (2 m_c . f - |m_c|^2)`, a learned scale (from
        1 / F) of the squared distance to `m_c`, but for a term that all classes share.

    Raises:
      ValueError: for another `head`; in `init` and `adapt` for a regression from `"prototypes"`,
        and for classes that a separate head was not made for.

    Returns:
      A learner that does not adapt: its `w` is theta.

    Example:
      >>> import jax
      >>> from jaxmeta import learners, networks, tasks
      >>> task = tasks.two_tasks(shots=10, queries=6)(jax.random.key(0))
      >>> learner = learners.learned_init(networks.mlp([8]), ways=2)
      >>> theta = learner.init(jax.random.key(1), task)
      >>> w = learner.adapt(theta, task.support)
      >>> learner.predict(theta, w, task.query.x).shape
      (6, 2)

    References:
      Finn, Abbeel and Levine, Model-agnostic meta-learning, arXiv:1703.03400.
      Ye and Chao, How to train your MAML to excel in few-shot classification, arXiv:2106.16245
      (the shared column).
      Triantafillou et al., Meta-Dataset, arXiv:1903.03096 (the prototypes, of scale one).
    """
    if head not in get_args(Head):
        raise ValueError(
            f"learned_init starts heads 'shared' or 'separate' or 'prototypes', got {head!r}."
        )
    network = encoder(network)

    def columns(support: Examples) -> int:
        """Outputs of the head."""
        if support.y.ndim == 2:
            return support.y.shape[1]
        return support.y.shape[0] if ways is None else ways

    def init(key: Array, task: Task) -> PyTree:
        body_key, head_key = jax.random.split(key)
        body = network.init(body_key, task.support.x)
        size = features_like(network, body, task.support.x).shape[-1]
        if head == "prototypes":
            _refuse_regression(task.support)
            return {"network": body, "head": {"log_scale": -jnp.log(jnp.float32(size))}}
        shared = head == "shared" and task.support.y.ndim == 1
        width = 1 if shared else columns(task.support)
        return {"network": body, "head": dense_init(head_key, size, width, gain=1.0)}

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> NetworkParameters:
        del description
        support = read_support(support, ways, network)
        if support.y.ndim == 1:
            present = one_hot_labels(support, ways).sum(axis=0) > 0
        else:
            present = jnp.ones(columns(support), bool)
        if head == "prototypes":
            _refuse_regression(support)
            start = _from_means(theta, support, key)
        else:
            start = _from_columns(theta["head"], len(present))
        return NetworkParameters(theta["network"], start, present)

    def _from_means(theta: PyTree, support: Examples, key: Array | None) -> dict[str, Array]:
        """The head whose logits are scaled distances to the class means."""
        if network.with_statistics is None:
            features = network.apply(theta["network"], support.x, key=key)
        else:
            features, _ = network.with_statistics(
                theta["network"], support.x, support.mask, key=key
            )
        means, _ = class_means(features, one_hot_labels(support, ways))
        scale = jnp.exp(theta["head"]["log_scale"])
        return {"kernel": 2.0 * scale * means.T, "bias": -scale * jnp.square(means).sum(axis=1)}

    def predict(theta: PyTree, w: NetworkParameters, x: Array) -> Array:
        del theta
        return predict_by_head(w, network.apply(w.body, x))

    return MetaLearner(init, adapt, predict)


def _refuse_regression(support: Examples) -> None:
    if support.y.ndim != 1:
        raise ValueError(
            f"head='prototypes' starts from the means of classes, got targets {support.y.shape}, "
            "which have none; use head='shared' or 'separate' for regression."
        )


def _from_columns(head: dict[str, Array], classes: int) -> dict[str, Array]:
    """A learned head: its one column for every class, or a column of each."""
    kernel, bias = head["kernel"], head["bias"]
    if kernel.shape[1] not in (1, classes):
        raise ValueError(
            f"This learned_init was made for {kernel.shape[1]} classes and is asked for "
            f"{classes}; head='shared' fits any number."
        )
    return {
        "kernel": jnp.broadcast_to(kernel, (len(kernel), classes)),
        "bias": jnp.broadcast_to(bias, (classes,)),
    }


def predict_by_head(w: NetworkParameters, features: Array) -> Array:
    """Logits `[N, C]` of features `[N, F]`; absent classes cannot be chosen."""
    return with_absent(dense(w.head, features), w.present)
