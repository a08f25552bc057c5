"""Emission: every layer of a perceptron as affine maps of a context."""

from collections.abc import Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp

from jaxmeta.networks._core import unit_rms
from jaxmeta.networks._mlp import dense, dense_init
from jaxmeta.types import Array

Layer = dict[str, Array]


def emitters_init(
    key: Array, sizes: Sequence[int], of_task: int, of_class: int, rank: int | None
) -> list[dict[str, Layer]]:
    """An emitter of each layer: an affine map for its kernel (or each of two factors) and bias.

    Args:
      key: for the entries.
      sizes: of the layers of the perceptron, from its input to its outputs.
      of_task: the size of the context of a task.
      of_class: the size of the context of a class, 0 if outputs are no classes. With classes the
        last emitter gives the column of one class, from both contexts.
      rank: of the emitted kernels; None for full ones.
    """
    *inner, (last_in, last_out) = pairwise(sizes)
    layers = [(*pair, of_task) for pair in inner]
    layers.append((last_in, 1 if of_class else last_out, of_task + of_class))
    keys = jax.random.split(key, len(layers))
    return [_emitter_init(k, *layer, rank) for k, layer in zip(keys, layers, strict=True)]


def emit_layers(
    emitters: list[dict[str, Layer]], context: Array, classes: Array | None, present: Array
) -> tuple[Layer, ...]:
    """Every layer, `kernel [in, out]` and `bias [out]`.

    Args:
      emitters: see `emitters_init`.
      context: of the task, `[E]`, of mean square one.
      classes: contexts of the classes `[C, E]`; None if outputs are no classes.
      present: which outputs are in use, bool `[C]`; the others have one and the same column.
    """
    *inner, last = emitters
    layers = [_emit(emitter, context) for emitter in inner]
    if classes is None:
        return *layers, _emit(last, context)
    shared = jnp.broadcast_to(context, (len(classes), len(context)))
    contexts = jnp.concatenate([shared, unit_rms(classes)], axis=-1)
    contexts = jnp.where(present[:, None], contexts, 0.0)
    return *layers, _emit_columns(last, contexts)


def _emitter_init(
    key: Array, in_size: int, out_size: int, context_size: int, rank: int | None
) -> dict[str, Layer]:
    left_key, right_key, bias_key = jax.random.split(key, 3)

    def emitter(key: Array, size: int, variance: float) -> Layer:
        # Contexts have mean square one: half of the variance comes from them, half is shared.
        layer_key, shared_key = jax.random.split(key)
        layer = dense_init(layer_key, context_size, size, gain=0.5 * variance)
        shared = jax.random.normal(shared_key, (size,)) * (0.5 * variance) ** 0.5
        return {"kernel": layer["kernel"], "bias": shared}

    he = 2.0 / in_size
    bias = emitter(bias_key, out_size, 1e-4)
    if rank is None:
        return {"kernel": emitter(left_key, in_size * out_size, he), "bias": bias}
    return {
        "left": emitter(left_key, in_size * rank, he),
        "right": emitter(right_key, rank * out_size, 1.0 / rank),
        "bias": bias,
    }


def _emit(emitter: dict[str, Layer], context: Array) -> Layer:
    """One layer, `kernel [in, out]` and `bias [out]`, from a context `[E]`."""
    bias = dense(emitter["bias"], context)
    if "kernel" in emitter:
        return {"kernel": dense(emitter["kernel"], context).reshape(-1, len(bias)), "bias": bias}
    right = dense(emitter["right"], context).reshape(-1, len(bias))
    left = dense(emitter["left"], context).reshape(-1, len(right))
    return {"kernel": left @ right, "bias": bias}


def _emit_columns(emitter: dict[str, Layer], contexts: Array) -> Layer:
    """One layer `[in, C]` whose column c is emitted from the context `[C, E]` of class c."""
    columns = jax.vmap(lambda context: _emit(emitter, context))(contexts)
    return {"kernel": columns["kernel"][:, :, 0].T, "bias": columns["bias"][:, 0]}
