"""Save and restore a pytree (a TrainState, or theta alone) as one file, atomically.

The file is msgpack: a format number, and a payload (the configuration, the versions that wrote it,
the arrays) with its SHA-256, so that damage is noticed when it is read and not after.

A TrainState is all that a run needs: samplers are functions of its root key and its step, and
nothing in it depends on the number of devices. Of several processes the first one writes.
"""

import glob
import hashlib
import json
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta._files import remove_left_aside, write_atomically
from jaxmeta._tree import Variables
from jaxmeta._validation import check_positive
from jaxmeta.types import PyTree

__all__ = [
    "Damaged",
    "newest_first",
    "read_config",
    "restore",
    "restore_newest",
    "save",
    "save_newest",
    "versions",
]

_FORMAT = 1
Config = dict[str, Any]


# Under the names that a dict of its entries would have.
flax.serialization.register_serialization_state(
    Variables,
    lambda node: flax.serialization.to_state_dict(dict(node)),
    lambda node, state: Variables(
        flax.serialization.from_state_dict(dict(node), state), node.constants
    ),
)


class Damaged(ValueError):
    """A file that cannot be read back as what was saved."""


def save(path: Path | str, tree: PyTree, config: Config, *, dtype: Any = None) -> None:
    """Write `tree` to `path`: aside first, then renamed, so no reader sees half a file.

    Args:
      path: file to write; its folder is made if it is missing.
      tree: a pytree of arrays, typed keys included.
      config: what made it, JSON-serialisable; `restore` hands it back.
      dtype: if given, floating-point arrays are stored in it (float16 halves the file).

    Raises:
      OSError: if it cannot be written; what was there before is whole.
    """
    path = Path(path)
    if jax.process_index() > 0:
        return
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


def save_newest(path: Path | str, tree: PyTree, config: Config, *, keep: int = 3) -> None:
    """`save`, and keep what was there: `path` is the newest, `path.1` the one before it, and so on.

    Killed at any moment, it leaves the files that were there, under these names or the next ones.

    Args:
      path: the newest file; no other process may write it.
      tree: as for `save`.
      config: as for `save`.
      keep: files that are kept, the newest included.

    Raises:
      ValueError: if `keep` is less than 1.
      OSError: as `save` does; then the older files are as they were.
    """
    check_positive(keep=keep)
    path = Path(path)
    if jax.process_index() > 0:
        return
    fresh = path.with_name(f"{path.name}.new")
    save(fresh, tree, config)
    remove_left_aside(fresh)
    for i in range(keep - 1, 0, -1):
        if _older(path, i - 1).exists():
            _older(path, i - 1).replace(_older(path, i))
    fresh.replace(path)


def restore_newest(path: Path | str, like: PyTree) -> tuple[PyTree, Config]:
    """Read the newest of what `save_newest` wrote that is whole.

    Args:
      path: what `save_newest` was given.
      like: as for `restore`.

    Returns:
      The tree, and the configuration that was saved with it.

    Raises:
      ValueError: if there is none, or each is damaged; else as `restore` does.
    """
    *newer, last = newest_first(path) or [path]
    for candidate in newer:
        try:
            return _restore(candidate, like)
        except Damaged as error:
            warnings.warn(f"{error} The one before it is used.", stacklevel=2)
    return _restore(last, like)


def newest_first(path: Path | str) -> list[Path]:
    """The files that `save_newest` has left, whole or not."""
    path = Path(path)
    older = path.parent.glob(f"{glob.escape(path.name)}.*")
    numbers = sorted(int(file.suffix[1:]) for file in older if file.suffix[1:].isdecimal())
    return [file for file in (path, *(_older(path, i) for i in numbers)) if file.exists()]


def restore(path: Path | str, like: PyTree) -> PyTree:
    """Read what `save` wrote.

    Args:
      path: the file.
      like: a tree of the same structure and shapes, as `training.init` returns (or, where it
        holds no keys, the shapes that `jax.eval_shape` returns); arrays come back in its dtypes.

    Raises:
      ValueError: if the file is missing, damaged, of a newer format, or of another learner.
    """
    return _restore(path, like)[0]


def _restore(path: Path | str, like: PyTree) -> tuple[PyTree, Config]:
    """The tree, in the structure of `like`, and the configuration."""
    like = jax.tree.map(_zeros_for_shape, like)
    content = _read(path)
    stored = content["arrays"]
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
    return jax.tree.map(_from_host, like, tree), json.loads(content["config"])


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
        raise Damaged(
            f"{path} is not a readable checkpoint ({type(error).__name__}): it is damaged, or "
            "something else; use an earlier copy, or train again."
        ) from error
    if number != _FORMAT:
        raise ValueError(
            f"{path} has format {number}, this jaxmeta reads format {_FORMAT}: upgrade jaxmeta if "
            "that is a newer one; else the file is damaged."
        )
    if digest != expected:
        raise Damaged(f"{path} is damaged (its checksum differs); use an earlier copy.")
    content: Any = flax.serialization.msgpack_restore(payload)
    return content


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _older(path: Path, number: int) -> Path:
    """Where the file goes that was the newest `number` saves ago."""
    return path.with_name(f"{path.name}.{number}") if number else path


def _to_host(leaf: Any, dtype: Any = None) -> np.ndarray:
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        leaf = leaf.addressable_data(0)  # every process has all of a replicated state
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
