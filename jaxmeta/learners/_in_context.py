"""In-context learning: a transformer reads the support set, and `w` is the context it encoded."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta._absent import with_absent
from jaxmeta._examples import one_hot_labels, read_support
from jaxmeta._precision import wide
from jaxmeta._validation import check_positive
from jaxmeta.learners._buffer import WhenFull, buffered
from jaxmeta.learners._prototypes import Prototypes, class_means
from jaxmeta.learners._similarity import unit_rows
from jaxmeta.networks._attention import attend
from jaxmeta.networks._core import encoder, features_like, unit_rms
from jaxmeta.networks._mlp import dense, dense_init
from jaxmeta.types import Array, Examples, MetaLearner, Network, PyTree, Task


class LayerMemory(NamedTuple):
    """What one layer lets others read of the support rows: `keys [S, E]` and `values [S, E]`."""

    keys: Array
    values: Array


class EncodedContext(NamedTuple):
    """`w` of in-context learning: the support set as the layers of a transformer see it.

    Attributes:
      layers: keys and values of each layer, zeros where padded.
      mask: which rows are real, bool `[S]`.
      classes: mean of the final tokens of each class `[C, E]`; None in regression.
    """

    layers: tuple[LayerMemory, ...]
    mask: Array
    classes: Prototypes | None


class ContextRows(NamedTuple):
    """The support rows before the first layer; `w` with a capacity, in a buffer.

    Attributes:
      tokens: embedded rows, with their targets in regression, `[S, E]`.
      members: which class each row belongs to, bool `[S, C]`; None in regression.
      mask: which rows are real, bool `[S]`.
    """

    tokens: Array
    members: Array | None
    mask: Array


def in_context(
    network: Network,
    *,
    size: int = 64,
    num_layers: int = 2,
    num_heads: int = 4,
    scale: float = 10.0,
    ways: int | None = None,
    capacity: int | None = None,
    when_full: WhenFull = "refuse",
) -> MetaLearner:
    """A transformer over the support set, fitted in advance to a prior over tasks.

    Support rows attend to support rows, query rows to support rows only, layer by layer with the
    same weights; nothing tells the place of a row. Layers normalise first (pre-norm).

    Classification: labels enter as a learned number for each head, added to the scores of pairs
    of support rows of the same class, and through the read-out. So classes are interchangeable,
    and any number of ways fits the same theta. With final tokens t of length one

        z_c = scale * t(x) . mean of t_i over the support rows of class c

    Regression: an affine map of y_i is added to token i, and z is an affine map of t(x).

    Args:
      network: `[N, ...] -> [N, F]`; `networks.identity()` for raw features.
      size: size E of a token.
      num_layers: layers of attention and perceptron.
      num_heads: heads H, which divide E.
      scale: where the learned scale of the read-out starts, in classification.
      ways: static number of columns of the logits; by default the number of support rows.
      capacity: remember in a buffer of so many rows, which further rows can join (`extend`); they
        may be none at first, and for classes `ways` has to be given. The layers, in which rows see
        each other, are then computed by `predict`. None for as many as there are.
      when_full: of the buffer: `"forget"` puts a row too many in the place of the oldest;
        `"refuse"` raises ValueError, or inside `jax.jit`, where it cannot, makes every z NaN.

    Returns:
      A learner whose `z` is `[N, C]` logits, or `[N, D]` for targets `y [S, D]`.

    Raises:
      ValueError: if the heads do not divide `size`, for another `when_full`, or for a network
        normalised by batch statistics (wrap it in `networks.transductive`); in `adapt` and
        `extend`, for more rows than the capacity.

    Example:
      >>> import jax
      >>> from jaxmeta import learners, networks, tasks
      >>> task = tasks.sinusoids(shots=5, queries=6)(jax.random.key(0))
      >>> learner = learners.in_context(networks.identity(), size=8, num_heads=2)
      >>> theta = learner.init(jax.random.key(1), task)
      >>> w = learner.adapt(theta, task.support)
      >>> learner.predict(theta, w, task.query.x).shape
      (6, 1)

    References:
      Mueller et al., Transformers can do Bayesian inference, arXiv:2112.10510.
    """
    check_positive(size=size, num_layers=num_layers, num_heads=num_heads)
    if size % num_heads:
        raise ValueError(
            f"in_context splits tokens of size {size} between {num_heads} heads; give it a "
            f"multiple of {num_heads}, or other heads."
        )

    network = encoder(network, "in_context")

    def init(key: Array, task: Task) -> PyTree:
        x, y, _ = task.support
        network_key, embed_key, target_key, readout_key, *keys = jax.random.split(
            key, 4 + num_layers
        )
        theta = {"network": network.init(network_key, x)}
        num_features = features_like(network, theta["network"], x).shape[-1]
        theta["embed"] = dense_init(embed_key, num_features, size, gain=1.0)
        theta["layers"] = [_layer_init(each, size, num_heads, num_layers) for each in keys]
        if y.ndim == 1:
            return theta | {"log_scale": jnp.log(jnp.float32(scale))}
        theta["target"] = dense_init(target_key, y.shape[-1], size, gain=1.0)
        return theta | {"readout": dense_init(readout_key, size, y.shape[-1], gain=1.0)}

    def embed(theta: PyTree, x: Array, key: Array | None = None) -> Array:
        return dense(theta["embed"], network.apply(theta["network"], x, key=key))

    def read(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> ContextRows:
        del description
        support = read_support(support, ways, network, may_be_empty=capacity is not None)
        mask = support.mask.astype(bool)
        tokens = jnp.where(mask[:, None], embed(theta, support.x, key), 0.0)
        if support.y.ndim == 1:
            return ContextRows(tokens, one_hot_labels(support, ways) > 0, mask)
        return ContextRows(tokens + dense(theta["target"], wide(support.y)), None, mask)

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> EncodedContext:
        rows = read(theta, support, description=description, key=key)
        return _encode(theta["layers"], rows, num_heads)

    def predict(theta: PyTree, w: EncodedContext, x: Array) -> Array:
        tokens = embed(theta, x)
        for layer, memory in zip(theta["layers"], w.layers, strict=True):
            tokens = _layer(layer, tokens, memory, w.mask, num_heads)
        if w.classes is None:
            return dense(theta["readout"], unit_rms(tokens))
        z = jnp.exp(theta["log_scale"]) * unit_rows(tokens) @ w.classes.means.T
        return with_absent(z, w.classes.present)

    def encode_and_predict(theta: PyTree, w: ContextRows, x: Array) -> Array:
        return predict(theta, _encode(theta["layers"], w, num_heads), x)

    at_once, by_rows = (adapt, predict), (read, encode_and_predict)
    learner = MetaLearner(init, *(at_once if capacity is None else by_rows))
    return buffered(learner, capacity, when_full, ways)


def _encode(layers: list[PyTree], rows: ContextRows, num_heads: int) -> EncodedContext:
    """The support rows as each layer sees them, which reads what the one before it made of them."""
    tokens, members, mask = rows
    members = None if members is None else members.astype(float)
    alike = None if members is None else members @ members.T
    memories = []
    for layer in layers:
        memories.append(_remember(layer, tokens, mask))
        tokens = _layer(layer, tokens, memories[-1], mask, num_heads, alike)
    if members is None:
        return EncodedContext(tuple(memories), mask, None)
    return EncodedContext(tuple(memories), mask, class_means(unit_rows(tokens), members))


def _layer_init(key: Array, size: int, num_heads: int, num_layers: int) -> PyTree:
    shapes = {
        "query": (size, size, 1.0),
        "key": (size, size, 1.0),
        "value": (size, size, 1.0),
        # What is added to the tokens is small in sum, however many layers add.
        "out": (size, size, 0.5 / num_layers),
        "up": (size, 2 * size, 2.0),
        "down": (2 * size, size, 0.5 / num_layers),
    }
    *keys, class_key = jax.random.split(key, len(shapes) + 1)
    layer = {
        name: dense_init(each, ins, outs, gain=gain)
        for each, (name, (ins, outs, gain)) in zip(keys, shapes.items(), strict=True)
    }
    return layer | {"same_class": jax.random.normal(class_key, (num_heads,))}


def _remember(layer: PyTree, tokens: Array, mask: Array) -> LayerMemory:
    rows = (dense(layer[name], unit_rms(tokens)) for name in ("key", "value"))
    return LayerMemory(*(jnp.where(mask[:, None], each, 0.0) for each in rows))


def _layer(
    layer: PyTree,
    tokens: Array,
    memory: LayerMemory,
    mask: Array,
    num_heads: int,
    alike: Array | None = None,
) -> Array:
    """Tokens `[N, E]` after reading the memory; `alike [N, S]` is 1 for pairs of one class."""
    bias = None if alike is None else layer["same_class"][:, None, None] * alike[None]
    queries = dense(layer["query"], unit_rms(tokens))
    read = attend(queries, *memory, mask, num_heads=num_heads, bias=bias)
    tokens = tokens + dense(layer["out"], read)
    return tokens + dense(layer["down"], jax.nn.gelu(dense(layer["up"], unit_rms(tokens))))
