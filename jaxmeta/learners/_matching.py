"""Matching Networks: `w` is the embedded support set, attended to by each query."""

from typing import Literal

import jax
import jax.numpy as jnp

from jaxmeta import sparsity
from jaxmeta._absent import with_absent
from jaxmeta._examples import one_hot_labels, read_support
from jaxmeta.learners._buffer import WhenFull, buffered
from jaxmeta.learners._similarity import SupportMemory, logsumexp_by_class, unit_rows
from jaxmeta.networks._core import encoder, features_like
from jaxmeta.networks._recurrent import lstm, lstm_init, masked_scan
from jaxmeta.types import Array, Examples, MetaLearner, Network, PyTree, Task


def matching(
    network: Network,
    *,
    full_context: bool = False,
    processing_steps: int = 3,
    scale: float = 10.0,
    attention: Literal["softmax", "sparsemax"] = "softmax",
    ways: int | None = None,
    capacity: int | None = None,
    when_full: WhenFull = "refuse",
) -> MetaLearner:
    """Classify by cosine attention over the embedded support set.

        a_i(x) = softmax_i(scale * cos(f(x), g(x_i)))
        p(c | x) = sum of a_i(x) over the support rows of class c;  z_c = log p(c | x) + constant

    Without full-context embeddings f = g = the network, and the order of the support rows does
    not matter. With them g reads the support set through a bidirectional LSTM and f attends to
    it for some steps; then the answer depends on the order of the rows, as in the paper.

    Args:
      network: `[N, ...] -> [N, F]`.
      full_context: use full-context embeddings.
      processing_steps: steps of attention of f, with full-context embeddings.
      scale: where the learned scale (inverse temperature) of the attention starts.
      attention: `"sparsemax"` gives most support rows no attention at all. A class without any
        gets a logit of log 0.001, and no gradient.
      ways: static number of columns of the logits; by default the number of support rows.
      capacity: remember in a buffer of so many rows, which further rows can join (`extend`); they
        may be none at first, and `ways` has to be given. None for as many as there are.
      when_full: of the buffer: `"forget"` puts a row too many in the place of the oldest;
        `"refuse"` raises ValueError, or inside `jax.jit`, where it cannot, makes every z NaN.

    Raises:
      ValueError: for another `attention` or `when_full`, a capacity with `full_context`, or a
        network normalised by batch statistics (wrap it in `networks.transductive`); in `adapt`
        and `extend`, for more rows than the capacity.

    Example:
      >>> import jax
      >>> from jaxmeta import learners, networks, tasks
      >>> task = tasks.two_tasks(shots=10, queries=6)(jax.random.key(0))
      >>> learner = learners.matching(networks.mlp([8]), ways=2)
      >>> theta = learner.init(jax.random.key(1), task)
      >>> w = learner.adapt(theta, task.support)
      >>> learner.predict(theta, w, task.query.x).shape
      (6, 2)

    References:
      Vinyals et al., Matching networks for one shot learning, arXiv:1606.04080.
      Martins and Astudillo, From softmax to sparsemax, arXiv:1602.02068.
    """
    if attention not in ("softmax", "sparsemax"):
        raise ValueError(f"matching attends by 'softmax' or 'sparsemax', got {attention!r}.")
    if full_context and capacity is not None:
        raise ValueError("With full_context a row changes what others say: it has no capacity.")
    network = encoder(network, "matching")

    def init(key: Array, task: Task) -> PyTree:
        network_key, *context_keys = jax.random.split(key, 4)
        params = network.init(network_key, task.support.x)
        theta = {"network": params, "log_scale": jnp.log(jnp.float32(scale))}
        if full_context:
            size = features_like(network, params, task.support.x).shape[-1]
            forward_key, backward_key, query_key = context_keys
            theta["forward"] = lstm_init(forward_key, size, size)
            theta["backward"] = lstm_init(backward_key, size, size)
            theta["query"] = lstm_init(query_key, size, size)
        return theta

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> SupportMemory:
        del description
        support = read_support(
            support, ways, network, classes_for="matching", may_be_empty=capacity is not None
        )
        embeddings = network.apply(theta["network"], support.x, key=key)
        if full_context:
            embeddings = _in_context(theta, unit_rows(embeddings), support.mask)
        embeddings = jnp.where(support.mask.astype(bool)[:, None], unit_rows(embeddings), 0.0)
        return SupportMemory(embeddings, one_hot_labels(support, ways) > 0)

    def predict(theta: PyTree, w: SupportMemory, x: Array) -> Array:
        features = network.apply(theta["network"], x)
        if full_context:
            features = _attend(theta["query"], unit_rows(features), w, processing_steps)
        scores = jnp.exp(theta["log_scale"]) * unit_rows(features) @ w.embeddings.T
        if attention == "sparsemax":
            return _sparse_logits(scores, w.members)
        z = logsumexp_by_class(scores, w.members)
        return with_absent(z, w.members.any(axis=0))

    return buffered(MetaLearner(init, adapt, predict), capacity, when_full, ways)


_LEAST_SHARE = 1e-3
"""What a class that gets no attention is taken to get: the logarithm of none is infinite."""


def _sparse_logits(scores: Array, members: Array) -> Array:
    """Logits `[N, C]` of scores `[N, S]` by sparsemax attention over the real rows."""
    real = members.any(axis=1)
    # Two below the highest is below any threshold that sparsemax can have.
    highest = jnp.max(scores, axis=1, keepdims=True, where=real[None], initial=-jnp.inf)
    attention = sparsity.sparsemax(jnp.where(real, scores, highest - 2.0))
    share = attention @ members.astype(scores.dtype)
    return with_absent(jnp.log(share + _LEAST_SHARE), members.any(axis=0))


def _in_context(theta: PyTree, embeddings: Array, mask: Array) -> Array:
    """g: each embedding `[S, F]` plus what the rows before and after it say."""
    forward = masked_scan(theta["forward"], embeddings, mask)
    backward = masked_scan(theta["backward"], embeddings[::-1], mask[::-1])[::-1]
    return embeddings + forward + backward


def _attend(cell: PyTree, features: Array, w: SupportMemory, steps: int) -> Array:
    """f: each query embedding `[N, F]` read again in the light of the support set, some times."""
    real = w.members.any(axis=1)
    hidden, memory = features, jnp.zeros_like(features)
    for _ in range(steps):
        read = jax.nn.softmax(hidden @ w.embeddings.T, axis=-1, where=real[None]) @ w.embeddings
        hidden, memory = lstm(cell, features, (hidden + read, memory))
        hidden = hidden + features
    return hidden
