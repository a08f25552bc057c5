"""Neural processes: `w` is what was read from the support rows, pooled, latent or row by row."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta._examples import mean_of, read_support
from jaxmeta._precision import as_one_dtype, wide
from jaxmeta._validation import check_positive
from jaxmeta.networks._attention import attend
from jaxmeta.networks._core import encoder, features_like
from jaxmeta.networks._mlp import dense, dense_init, mlp, mlp_apply
from jaxmeta.types import Array, Examples, MetaLearner, Network, PyTree, Task


class RowMemory(NamedTuple):
    """Where the support rows lie `keys [S, R]`, what they say `values [S, R]`, and `mask [S]`."""

    keys: Array
    values: Array
    mask: Array


class NeuralContext(NamedTuple):
    """`w` of a neural process: exactly what its decoder reads.

    Attributes:
      summary: the mean representation `[R]` or the latent `[L]`; None with attention alone.
      memory: the rows that each query attends to; None without attention.
      count: how many rows the mean is of, int32 `[]`; None for a latent, or with attention alone.
    """

    summary: Array | None
    memory: RowMemory | None
    count: Array | None = None


def neural_process(
    network: Network,
    *,
    representation_size: int = 64,
    hidden: Sequence[int] = (64, 64),
    attention: bool = False,
    num_heads: int = 4,
    latent: int | None = None,
    min_std: float = 0.01,
) -> MetaLearner:
    """Regression with a predicted spread, from a set encoder and a decoder.

        r_i = phi([network(x_i); y_i])
        r   = mean of r_i                                             (conditional)
        r   = sum_i a_i(x) r_i,  a = softmax(locate(x) . locate(x_i) / sqrt(R / H)) in each head
                                                                      (attentive)
        r   = a draw of N(mu, sigma^2),  [mu; raw] = affine map of the mean of r_i,
              sigma = 0.1 + 0.9 sigmoid(raw)                          (latent)
        [mean; raw] = decoder([network(x); r]);  z = [mean; log(min_std + softplus(raw))]

    With attention and a latent the decoder reads both. `adapt` draws the latent from `key`;
    `key=None` takes its mean mu. Train on `losses.gaussian_nll`, which reads the spread, or on
    `losses.mean_squared_error`, which does not. The latent is trained by the likelihood of one draw
    for each outer step, a Monte-Carlo estimate, and not by the evidence lower bound of the paper:
    `adapt` never sees the query set that its posterior would need.

    Args:
      network: shared features, `[N, ...] -> [N, F]`; `networks.identity()` for none.
      representation_size: size R of a representation.
      hidden: sizes of the hidden layers of the decoder.
      attention: attend to the support rows instead of averaging them.
      num_heads: heads H of the attention, which divide R.
      latent: size L of the latent; None for a deterministic context.
      min_std: the least standard deviation, in units of y; it keeps the likelihood bounded.

    Returns:
      A learner for targets `y [S, D]` whose `z` is `[N, 2 D]`: D means, then D logarithms of
      standard deviations.

    Raises:
      ValueError: if the heads do not divide `representation_size`, `min_std` is not above zero,
        or the network is normalised by batch statistics (wrap it in `networks.transductive`).

    Example:
      >>> import jax
      >>> from jaxmeta import learners, networks, tasks
      >>> task = tasks.sinusoids(shots=5, queries=6)(jax.random.key(0))
      >>> learner = learners.neural_process(networks.identity(), representation_size=8)
      >>> theta = learner.init(jax.random.key(1), task)
      >>> w = learner.adapt(theta, task.support)
      >>> learner.predict(theta, w, task.query.x).shape
      (6, 2)

    References:
      Garnelo et al., Conditional neural processes, arXiv:1807.01613.
      Garnelo et al., Neural processes, arXiv:1807.01622.
      Kim et al., Attentive neural processes, arXiv:1901.05761.
    """
    _check_sizes(representation_size, num_heads, attention, latent, min_std)
    network = encoder(network, "neural_process")
    phi, locate = mlp([representation_size] * 3), mlp([representation_size] * 2)

    def init(key: Array, task: Task) -> PyTree:
        x, y, _ = task.support
        _check_targets(y)
        network_key, phi_key, locate_key, latent_key, decoder_key = jax.random.split(key, 5)
        theta = {"network": network.init(network_key, x)}
        features = features_like(network, theta["network"], x)
        theta["phi"] = phi.init(phi_key, _rows(features, y))
        if attention:
            theta["locate"] = locate.init(locate_key, features)
        if latent:
            theta["latent"] = dense_init(latent_key, representation_size, 2 * latent, gain=1.0)
        pooled = latent or (0 if attention else representation_size)
        reads = features.shape[-1] + pooled + attention * representation_size
        theta["decoder"] = _decoder_init(decoder_key, reads, [*hidden, 2 * y.shape[-1]])
        return theta

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> NeuralContext:
        del description
        support = read_support(support, None, network)
        _check_targets(support.y)
        real = support.mask.astype(bool)
        # The latent is drawn from the key itself.
        noise_key = None if key is None else jax.random.fold_in(key, 0)
        features = network.apply(theta["network"], support.x, key=noise_key)
        rows = phi.apply(theta["phi"], _rows(features, support.y))
        rows = jnp.where(real[:, None], rows, 0.0)
        summary, memory = mean_of(rows, real), None
        if attention:
            keys = jnp.where(real[:, None], locate.apply(theta["locate"], features), 0.0)
            memory = RowMemory(keys, rows, real)
        if latent:
            return NeuralContext(_draw(theta["latent"], summary, key), memory)
        if attention:
            return NeuralContext(None, memory)
        return NeuralContext(summary, None, real.sum(dtype=jnp.int32))

    def extend(theta: PyTree, w: NeuralContext, examples: Examples) -> NeuralContext:
        more = adapt(theta, examples)
        return NeuralContext(*_joined(w, more))

    def predict(theta: PyTree, w: NeuralContext, x: Array) -> Array:
        parts = [network.apply(theta["network"], x)]
        if w.memory is not None:
            queries = locate.apply(theta["locate"], parts[0])
            parts.append(attend(queries, *w.memory, num_heads=num_heads))
        if w.summary is not None:
            parts.append(jnp.broadcast_to(w.summary, (x.shape[0], len(w.summary))))
        return _decode(theta["decoder"], jnp.concatenate(parts, axis=-1), min_std)

    return MetaLearner(init, adapt, predict, None if attention or latent else extend)


def _check_sizes(
    representation_size: int, num_heads: int, attention: bool, latent: int | None, min_std: float
) -> None:
    check_positive(representation_size=representation_size, num_heads=num_heads)
    if attention and representation_size % num_heads:
        raise ValueError(
            f"neural_process splits a representation of size {representation_size} between "
            f"{num_heads} heads; give it a multiple of {num_heads}, or other heads."
        )
    if latent is not None:
        check_positive(latent=latent)
    if not min_std > 0:
        raise ValueError(f"neural_process needs a min_std above zero, got {min_std}.")


def _decoder_init(key: Array, reads: int, sizes: Sequence[int]) -> list[dict[str, Array]]:
    """A perceptron of rows `[reads]`, the last of its `sizes` being twice the target's."""
    *inner, last = mlp(sizes).init(key, jnp.zeros((1, reads)))
    # Starts near a mean of 0 and a spread of 0.7: a random spread of almost nothing would make
    # the first likelihoods thousands of nats.
    return [*inner, last | {"kernel": 0.01 * last["kernel"]}]


def _decode(decoder: list[dict[str, Array]], rows: Array, min_std: float) -> Array:
    """Means, then logarithms of standard deviations, `[N, 2 D]`."""
    mean, raw = jnp.split(mlp_apply(decoder, rows), 2, axis=-1)
    return jnp.concatenate([mean, jnp.log(min_std + jax.nn.softplus(raw))], axis=-1)


def _joined(w: Any, more: Any) -> tuple[Array, None, Array]:
    """The mean of the rows of both, and their number."""
    total = w.count + more.count
    share = (more.count / jnp.maximum(total, 1)).astype(w.summary.dtype)
    return w.summary + share * (more.summary - w.summary), None, total


def _rows(features: Array, y: Array) -> Array:
    """What phi reads of each row: its features and its targets."""
    return jnp.concatenate(as_one_dtype(features, wide(y)), axis=-1)


def _check_targets(y: Array) -> None:
    if y.ndim != 2:
        raise ValueError(
            f"neural_process is for regression, with targets y [N, D], and got labels of shape "
            f"{y.shape}; for classes use ridge, relation or in_context, for one target a row "
            "reshape y to [N, 1]."
        )


def _draw(layer: dict[str, Array], summary: Array, key: Array | None) -> Array:
    """The latent `[L]`, drawn given a summary `[R]`; its mean without a key."""
    mean, raw = jnp.split(dense(layer, summary), 2)
    if key is None:
        return mean
    stddev = 0.1 + 0.9 * jax.nn.sigmoid(raw)
    return mean + stddev * jax.random.normal(key, mean.shape, mean.dtype)
