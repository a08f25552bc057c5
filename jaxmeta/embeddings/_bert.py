"""BERT as a pure function: token ids and a mask in, one vector of unit length a sentence out.

Sizes are read from the tensors; what tensors do not say, `Settings` do.

References:
  Devlin et al., BERT: pre-training of deep bidirectional transformers, arXiv:1810.04805.
  Reimers and Gurevych, Sentence-BERT, arXiv:1908.10084.
"""

import functools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.networks._attention import attend
from jaxmeta.types import Array

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_new": functools.partial(jax.nn.gelu, approximate=True),
    "gelu_pytorch_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
}
"""By their names in `config.json`."""

_WORDS = "embeddings.word_embeddings.weight"
_LAYER = "encoder.layer."


class Settings(NamedTuple):
    """What tensors do not say.

    Attributes:
      num_heads: of the attention, which divide the width.
      num_layers: how many layers there are; None for as many as there are tensors of.
      epsilon: what layer norm adds to the variance.
      activation: one of `ACTIVATIONS`.
      pooling: `"mean"` over the tokens, or `"first"`, the vector of the first token.
    """

    num_heads: int
    num_layers: int | None = None
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


def tensor_names(available: Iterable[str], num_layers: int | None) -> dict[str, str]:
    """What `read_params` needs, by its name in BERT, to its name in the file.

    Raises:
      ValueError: for a tensor that is missing, by its name.
    """
    available = set(available)
    # A model with a head on top holds BERT under a name.
    words = sorted((name for name in available if name.endswith(_WORDS)), key=len)
    prefix = words[0].removesuffix(_WORDS) if words else ""
    numbers = {name.removeprefix(prefix + _LAYER).partition(".")[0] for name in available}
    found = [int(number) for number in numbers if number.isdecimal()]
    num_layers = num_layers or max(found, default=0) + 1
    needed = [_WORDS, "embeddings.position_embeddings.weight"]
    needed += ["embeddings.token_type_embeddings.weight"]
    needed += [f"embeddings.LayerNorm.{part}" for part in ("weight", "bias")]
    for number in range(num_layers):
        for place, _ in _PLACES.values():
            needed += [f"{_LAYER}{number}.{place}.{part}" for part in ("weight", "bias")]
    names = {name: prefix + name for name in needed}
    missing = [name for name in names.values() if name not in available]
    if missing:
        raise ValueError(
            f"The weights lack the tensor {missing[0]!r} ({len(missing)} of {len(names)} are not "
            "there): they are none of a BERT model."
        )
    return names


# Where the parts of a layer are in the file, and their shapes [in, out] in widths D and F.
_PLACES = {
    "query": ("attention.self.query", "DD"),
    "key": ("attention.self.key", "DD"),
    "value": ("attention.self.value", "DD"),
    "attended": ("attention.output.dense", "DD"),
    "attended_norm": ("attention.output.LayerNorm", "D"),
    "widened": ("intermediate.dense", "DF"),
    "narrowed": ("output.dense", "FD"),
    "narrowed_norm": ("output.LayerNorm", "D"),
}


def read_params(tensors: dict[str, np.ndarray]) -> Bert:
    """Parameters in float32, from tensors by their names in BERT (`tensor_names`).

    Raises:
      ValueError: for a tensor of a shape that does not fit the others, or that is not finite.
    """

    def take(name: str, *shape: int | None) -> np.ndarray:
        given = tensors[name].shape
        fits = len(given) == len(shape) and all(
            need in (None, size) for size, need in zip(given, shape, strict=True)
        )
        if not fits:
            needed = ["any" if size is None else size for size in shape]
            raise ValueError(f"The tensor {name!r} is of shape {list(given)}, not {needed}.")
        tensor = np.asarray(tensors[name], np.float32)
        if not np.isfinite(tensor).all():
            raise ValueError(f"The tensor {name!r} holds NaN or infinity.")
        return tensor

    words = take(_WORDS, None, None)
    width = words.shape[1]
    positions = take("embeddings.position_embeddings.weight", None, width)
    segments = take("embeddings.token_type_embeddings.weight", None, width)
    norm = Norm(*(take(f"embeddings.LayerNorm.{part}", width) for part in ("weight", "bias")))
    inner = len(tensors[f"{_LAYER}0.intermediate.dense.bias"])
    num_layers = sum(name.endswith("intermediate.dense.bias") for name in tensors)
    sizes = {"D": width, "F": inner}

    def part(name: str) -> Dense | Norm:
        place, letters = _PLACES[name]
        shape = [sizes[letter] for letter in letters]
        paths = [f"{_LAYER}{number}.{place}" for number in range(num_layers)]
        # A dense layer is stored as [out, in].
        weights = np.stack([take(f"{path}.weight", *reversed(shape)).T for path in paths])
        biases = np.stack([take(f"{path}.bias", shape[-1]) for path in paths])
        return (Dense if len(shape) == 2 else Norm)(weights, biases)

    layers = Layer(**{name: part(name) for name in _PLACES})
    return jax.tree.map(jnp.asarray, Bert(words, positions + segments[:1], norm, layers))


@functools.partial(jax.jit, static_argnames="settings")
def apply(params: Bert, ids: Array, mask: Array, *, settings: Settings) -> Array:
    """Sentences as vectors of unit length `[N, D]`.

    Args:
      params: as `read_params` gives them.
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
