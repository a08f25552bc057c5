"""BERT as a pure function: token ids and a mask in, one vector of unit length a sentence out.

Sizes are read from the tensors; what tensors do not say, `Settings` do.

References:
  Devlin et al., BERT: pre-training of deep bidirectional transformers, arXiv:1810.04805.
  Reimers and Gurevych, Sentence-BERT, arXiv:1908.10084.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.networks._attention import attend
from jaxmeta.types import Array

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_new": functools.partial(jax.nn.gelu, approximate=True),
    "gelu_pytorch_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
}
"""By their names in `config.json`."""


class Settings(NamedTuple):
    """What tensors do not say.

    Attributes:
      num_heads: of the attention, which divide the width.
      epsilon: what layer norm adds to the variance.
      activation: one of `ACTIVATIONS`.
      pooling: `"mean"` over the tokens, or `"first"`, the vector of the first token.
    """

    num_heads: int
    epsilon: float = 1e-12
    activation: str = "gelu"
    pooling: str = "mean"


class Dense(NamedTuple):
    """`x @ kernel + bias`, kernel `[D, E]`."""

    kernel: Array
    bias: Array


class Norm(NamedTuple):
    """Layer norm, `[D]` each."""

    scale: Array
    offset: Array


class Layer(NamedTuple):
    """A layer; in `Bert` the leaves of all layers are stacked `[L, ...]`."""

    query: Dense
    key: Dense
    value: Dense
    attended: Dense
    attended_norm: Norm
    widened: Dense
    narrowed: Dense
    narrowed_norm: Norm


class Bert(NamedTuple):
    """The parameters. V tokens of the vocabulary, P positions, width D.

    Attributes:
      words: `[V, D]`.
      positions: `[P, D]`, with the vector of the first segment in them.
      norm: of their sum.
      layers: leaves `[L, ...]`.
    """

    words: Array
    positions: Array
    norm: Norm
    layers: Layer


@functools.partial(jax.jit, static_argnames="settings")
def apply(params: Bert, ids: Array, mask: Array, *, settings: Settings) -> Array:
    """Sentences as vectors of unit length `[N, D]`.

    Args:
      params: as `_bert_tensors.read_params` gives them.
      ids: tokens `[N, T]`, at most as many as there are positions.
      mask: `[N, T]`, bool; False for padding, which changes nothing. A sentence of padding alone
        becomes a vector of zeros.
      settings: what tensors do not say.
    """
    x = params.words[ids] + params.positions[None, : ids.shape[1]]
    x = _normalise(params.norm, x, settings)
    block = functools.partial(_block, settings=settings)
    blocks = jax.vmap(block, in_axes=(None, 0, 0))
    x, _ = jax.lax.scan(lambda x, layer: (blocks(layer, x, mask), None), x, params.layers)
    weights = mask.astype(x.dtype)
    if settings.pooling == "first":
        weights = weights * (jnp.arange(ids.shape[1]) == 0).astype(x.dtype)[None]
    # Its length does not matter: a sum points where the mean does.
    pooled = jnp.einsum("ntd,nt->nd", x, weights)
    length = jnp.linalg.norm(pooled, axis=1, keepdims=True)
    return pooled / jnp.maximum(length, jnp.finfo(x.dtype).tiny)


def _block(layer: Layer, x: Array, mask: Array, *, settings: Settings) -> Array:
    """One layer on one sentence `[T, D]`: attention, then two dense layers, each added to x."""
    q, k, v = (_dense(part, x) for part in (layer.query, layer.key, layer.value))
    read = attend(q, k, v, mask, num_heads=settings.num_heads)
    x = _normalise(layer.attended_norm, x + _dense(layer.attended, read), settings)
    wide = ACTIVATIONS[settings.activation](_dense(layer.widened, x))
    return _normalise(layer.narrowed_norm, x + _dense(layer.narrowed, wide), settings)


def _dense(layer: Dense, x: Array) -> Array:
    return x @ layer.kernel + layer.bias[None]


def _normalise(norm: Norm, x: Array, settings: Settings) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = jnp.square(centred).mean(axis=-1, keepdims=True)
    scale, offset = (jnp.expand_dims(leaf, range(x.ndim - 1)) for leaf in norm)
    return centred * jax.lax.rsqrt(variance + settings.epsilon) * scale + offset
