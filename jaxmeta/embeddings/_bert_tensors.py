"""The parameters of BERT from tensors by their names; the sizes are theirs."""

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.embeddings._bert import Bert, Dense, Layer, Norm
from jaxmeta.types import Array

_WORDS = "embeddings.word_embeddings.weight"
_LAYER = "encoder.layer."

Take = Callable[..., np.ndarray]
"""`take(name, *sizes)`: a tensor in float32, each size a number or None for any."""


def read_params(
    names: Iterable[str], get: Callable[[str], np.ndarray], num_layers: int | None
) -> Bert:
    """Parameters in float32.

    Args:
      names: of the tensors that there are.
      get: a tensor by its name.
      num_layers: None for as many as there are tensors of.

    Raises:
      ValueError: for a tensor that is missing, of a shape that does not fit, or not finite.
    """
    names = set(names)
    # A model with a head on top holds BERT under a name.
    words = sorted((name for name in names if name.endswith(_WORDS)), key=len)
    prefix = words[0].removesuffix(_WORDS) if words else ""
    take = _reader(names, get, prefix)
    if num_layers is None:
        inside = [name.removeprefix(prefix + _LAYER).partition(".")[0] for name in names]
        num_layers = max((int(part) for part in inside if part.isdecimal()), default=0) + 1
    table = take(_WORDS, None, None)
    width = table.shape[1]
    positions = take("embeddings.position_embeddings.weight", None, width)
    segments = take("embeddings.token_type_embeddings.weight", None, width)
    norm = _norm(take, "embeddings.LayerNorm", width)
    layers = [_layer(take, f"{_LAYER}{number}", width) for number in range(num_layers)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
    return Bert(jnp.asarray(table), jnp.asarray(positions + segments[:1]), norm, stacked)


def _reader(names: set[str], get: Callable[[str], np.ndarray], prefix: str) -> Take:
    def take(name: str, *sizes: int | None) -> np.ndarray:
        name = prefix + name
        if name not in names:
            raise ValueError(
                f"The weights lack the tensor {name!r}: they are of another model than BERT, or "
                "not all of it."
            )
        tensor = get(name)
        given = tensor.shape
        if len(given) != len(sizes) or any(
            size not in (None, found) for size, found in zip(sizes, given, strict=True)
        ):
            needed = ["any" if size is None else size for size in sizes]
            raise ValueError(f"The tensor {name!r} is of shape {list(given)}, not {needed}.")
        tensor = np.asarray(tensor, np.float32)
        if not np.isfinite(tensor).all():
            raise ValueError(f"The tensor {name!r} holds NaN or infinity.")
        return tensor

    return take


def _layer(take: Take, place: str, width: int) -> Layer:
    widened = _dense(take, f"{place}.intermediate.dense", width, None)
    return Layer(
        query=_dense(take, f"{place}.attention.self.query", width, width),
        key=_dense(take, f"{place}.attention.self.key", width, width),
        value=_dense(take, f"{place}.attention.self.value", width, width),
        attended=_dense(take, f"{place}.attention.output.dense", width, width),
        attended_norm=_norm(take, f"{place}.attention.output.LayerNorm", width),
        widened=widened,
        narrowed=_dense(take, f"{place}.output.dense", widened.bias.shape[0], width),
        narrowed_norm=_norm(take, f"{place}.output.LayerNorm", width),
    )


def _dense(take: Take, place: str, num_in: int, num_out: int | None) -> Dense:
    # Stored as [out, in].
    kernel = take(f"{place}.weight", num_out, num_in).T
    return Dense(jnp.asarray(kernel), _vector(take, f"{place}.bias", kernel.shape[1]))


def _norm(take: Take, place: str, width: int) -> Norm:
    return Norm(_vector(take, f"{place}.weight", width), _vector(take, f"{place}.bias", width))


def _vector(take: Take, name: str, size: int) -> Array:
    return jnp.asarray(take(name, size))
