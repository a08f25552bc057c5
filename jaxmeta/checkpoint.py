"""Save and restore a pytree (a TrainState, or theta alone) as one file, atomically.

The file is msgpack: a format number, and a payload (the configuration, the versions that wrote it,
the arrays) with its SHA-256, so that damage is noticed when it is read and not after.
"""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.files import write_atomically
from jaxmeta.types import PyTree

_FORMAT = 1
Config = dict[str, Any]


def save(path: Path | str, tree: PyTree, config: Config, *, dtype: Any = None) -> None:
    """Write `tree` to `path`: aside first, then renamed, so no reader sees half a file.

    Args:
      path: file to write; its folder is made if it is missing.
      tree: a pytree of arrays, typed keys included.
      config: what made it, JSON-serialisable; `restore` hands it back.
      dtype: if given, floating-point arrays are stored in it (float16 halves the file).
    """
    path = Path(path)
    arrays = jax.tree.map(lambda leaf: _to_host(leaf, dtype), tree)
    content = {
        "config": json.dumps(config),
        "versions": versions(),
        "arrays": flax.serialization.to_state_dict(arrays),
    }
    payload = flax.serialization.msgpack_serialize(content)
    digest = hashlib.sha256(payload).hexdigest()
    envelope = {"format": _FORMAT, "sha256": digest, "payload": payload}
    write_atomically(path, flax.serialization.msgpack_serialize(envelope))


def restore(path: Path | str, like: PyTree) -> PyTree:
    """Read what `save` wrote.

    Args:
      path: the file.
      like: a tree of the same structure and shapes, as `training.init` returns (or, where it
        holds no keys, the shapes that `jax.eval_shape` returns); arrays come back in its dtypes.

    Raises:
      ValueError: if the file is missing, damaged, of a newer format, or of another learner.
    """
    like = jax.tree.map(_zeros_for_shape, like)
    stored = _read(path)["arrays"]
    template = flax.serialization.to_state_dict(jax.tree.map(lambda leaf: _to_host(leaf), like))
    expected, found = _signature(template), _signature(stored)
    if expected != found:
        names = sorted(set(expected.items()) ^ set(found.items()))[:4]
        raise ValueError(
            f"{path} is a checkpoint of another learner: it holds {len(found)} arrays where "
            f"{len(expected)} are needed, the first that differ are {names}. Use the learner and "
            "the network that it was trained with (read_config tells which)."
        )
    tree = flax.serialization.from_state_dict(like, stored)
    return jax.tree.map(_from_host, like, tree)


def read_config(path: Path | str) -> Config:
    """The configuration that was saved with the arrays; raises as `restore` does."""
    return json.loads(_read(path)["config"])


def versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on."""
    return {name: version(name) for name in ("jaxmeta", "jax", "flax", "optax", "numpy")}


def _read(path: Path | str) -> dict[str, Any]:
    """The content that `save` wrote, once its checksum has been seen to hold."""
    try:
        envelope: Any = flax.serialization.msgpack_restore(Path(path).read_bytes())
        number, payload, expected = (envelope[name] for name in ("format", "payload", "sha256"))
        digest = hashlib.sha256(payload).hexdigest()
    except FileNotFoundError:
        raise ValueError(f"There is no checkpoint at {path}.") from None
    except Exception as error:  # msgpack raises many kinds, all of which mean the same here
        raise ValueError(
            f"{path} is not a readable checkpoint ({type(error).__name__}); it is damaged, or "
            "something else. Delete it and train again, or name another file."
        ) from error
    if number != _FORMAT:
        raise ValueError(
            f"{path} has format {number}, this jaxmeta reads format {_FORMAT}: upgrade jaxmeta if "
            "that is a newer one; else the file is damaged."
        )
    if digest != expected:
        raise ValueError(f"{path} is damaged (its checksum differs); use an earlier copy.")
    content: Any = flax.serialization.msgpack_restore(payload)
    return content


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_host(leaf: Any, dtype: Any = None) -> np.ndarray:
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    cast = dtype is not None and jnp.issubdtype(array.dtype, jnp.floating)
    return array.astype(dtype) if cast else array


def _zeros_for_shape(leaf: Any) -> Any:
    return np.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf


def _from_host(like: Any, stored: Any) -> Any:
    if _is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(stored), impl=jax.random.key_impl(like))
    return jnp.asarray(stored, like.dtype)


def _signature(state_dict: PyTree) -> dict[str, tuple[tuple[int, ...], bool]]:
    """Shape of each array by its name, and whether it holds floating-point numbers."""
    return {
        jax.tree_util.keystr(path): (np.shape(leaf), bool(jnp.issubdtype(leaf.dtype, jnp.inexact)))
        for path, leaf in jax.tree_util.tree_leaves_with_path(state_dict)
    }
