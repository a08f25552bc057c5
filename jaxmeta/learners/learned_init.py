"""A learned initialisation: `w_0` is theta itself, for `fine_tune` to start from."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta._absent import with_absent
from jaxmeta.learners.common import one_hot_labels, read_support
from jaxmeta.networks.base import encoder
from jaxmeta.networks.mlp import dense, dense_init
from jaxmeta.types import Array, Examples, MetaLearner, Network, PyTree, Task


class NetworkParameters(NamedTuple):
    """`w`: a whole network, `body` and `head` (`kernel [F, C]`, `bias [C]`), and classes in use."""

    body: PyTree
    head: dict[str, Array]
    present: Array


def learned_init(
    network: Network,
    *,
    ways: int | None = None,
    head: Literal["shared", "separate"] = "shared",
) -> MetaLearner:
    """Start every task from the same parameters: `fine_tune` around it is MAML.

        w_0 = theta;   z = head_w(network_w(x))

    Args:
      network: `[N, ...] -> [N, F]`, the body; a dense head comes on top.
      ways: static number of classes; by default the number of support rows. Regression, which has
        as many outputs as targets, does not read it.
      head: in classification, `"shared"` starts all classes from one learned column: no class is
        special, and theta fits any number of ways. `"separate"` learns a column for each, as MAML
        did; theta then fits `ways` classes only.

    References:
      Finn, Abbeel and Levine, Model-agnostic meta-learning, arXiv:1703.03400.
      Ye and Chao, How to train your MAML to excel in few-shot classification, arXiv:2106.16245
      (the shared column).
    """
    if head not in ("shared", "separate"):
        raise ValueError(f"learned_init starts heads 'shared' or 'separate', got {head!r}.")
    network = encoder(network)

    def columns(support: Examples) -> int:
        """Outputs of the head."""
        if support.y.ndim == 2:
            return support.y.shape[1]
        return len(support.y) if ways is None else ways

    def init(key: Array, task: Task) -> PyTree:
        body_key, head_key = jax.random.split(key)
        body = network.init(body_key, task.support.x)
        size = network.apply(body, task.support.x).shape[-1]
        shared = head == "shared" and task.support.y.ndim == 1
        width = 1 if shared else columns(task.support)
        return {"network": body, "head": dense_init(head_key, size, width, gain=1.0)}

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> NetworkParameters:
        del description, key
        support = read_support(support, ways, network)
        if support.y.ndim == 1:
            present = one_hot_labels(support, ways).sum(axis=0) > 0
        else:
            present = jnp.ones(columns(support), bool)
        kernel, bias = theta["head"]["kernel"], theta["head"]["bias"]
        if kernel.shape[1] not in (1, len(present)):
            raise ValueError(
                f"This learned_init was made for {kernel.shape[1]} classes and is asked for "
                f"{len(present)}; head='shared' fits any number."
            )
        start = {
            "kernel": jnp.broadcast_to(kernel, (len(kernel), len(present))),
            "bias": jnp.broadcast_to(bias, present.shape),
        }
        return NetworkParameters(theta["network"], start, present)

    def predict(theta: PyTree, w: NetworkParameters, x: Array) -> Array:
        del theta
        return predict_by_head(w, network.apply(w.body, x))

    return MetaLearner(init, adapt, predict)


def predict_by_head(w: NetworkParameters, features: Array) -> Array:
    """Logits `[N, C]` of features `[N, F]`; absent classes cannot be chosen."""
    return with_absent(dense(w.head, features), w.present)
