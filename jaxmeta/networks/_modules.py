"""Modules of flax as networks: their parameters are trained, all else that they hold is not.

linen's collection `params` and NNX's `nnx.Param` are parameters. Running statistics, counters,
states of random numbers and cached values travel beside them as constants: a module normalises by
the running statistics that it was given, and a row's answer does not depend on the rows beside it.
"""

import inspect
import sys
from collections.abc import Callable
from typing import Any

import jax

from jaxmeta._tree import Variables, is_parameter
from jaxmeta.types import Array, PyTree

_SWITCHES_OFF = {"deterministic": True, "train": False, "training": False}
"""Arguments by which linen modules are usually told that they are to be deterministic."""

_STREAMS = ("dropout", "noise", "params")
"""Streams of random numbers that a key feeds; linen falls back on the last for any other."""


def is_linen(network: Any) -> bool:
    """Whether it is a flax linen module, which nothing can be before flax is imported."""
    linen = sys.modules.get("flax.linen")
    return linen is not None and isinstance(network, linen.Module)


def linen_pair(module: Any) -> tuple[Callable[..., PyTree], Callable[..., Array]]:
    """`init` and `apply` of a linen module.

    With a key the module gets streams of random numbers, and an argument `deterministic` of its
    `__call__` is False; `train` and `training` are True, if the module holds nothing but
    parameters (they would have it normalise by the batch). Without a key it is the other way round.
    """
    taken = inspect.signature(type(module).__call__).parameters
    off = {name: value for name, value in _SWITCHES_OFF.items() if name in taken}

    def init(key: Array, x: Array) -> PyTree:
        variables = dict(module.init(key, x, **off))
        others = variables.keys() - {"params"}
        return Variables(variables, others) if others else variables

    def apply(variables: PyTree, x: Array, *, key: Array | None = None) -> Array:
        variables = {
            name: entry if name == "params" else _constant(entry)
            for name, entry in variables.items()
        }
        if key is None:
            return module.apply(variables, x, **off)
        noisy = variables.keys() <= {"params"}
        on = {name: (not v) if noisy or name == "deterministic" else v for name, v in off.items()}
        keys = jax.random.split(key, len(_STREAMS))
        return module.apply(variables, x, rngs=dict(zip(_STREAMS, keys, strict=True)), **on)

    return init, apply


def nnx_pair(build: Callable) -> tuple[Callable[..., PyTree], Callable[..., Array]]:
    """`init` and `apply` of the NNX module that `build(rngs)` makes."""
    from flax import nnx  # imported here: slow to import, and no other network needs it

    def divided(module: Any) -> Any:
        return nnx.split(module, nnx.Param, ...)

    # The graph definition holds the structure only, so an abstract module gives it for free.
    graph, *states = divided(nnx.eval_shape(lambda: build(nnx.Rngs(0))))

    def init(key: Array, x: Array) -> PyTree:
        del x  # an NNX module is told its input sizes when it is built
        _, params, others = divided(build(nnx.Rngs(key)))
        constants = {path for path, _ in nnx.to_flat_state(others)}
        return _marked(nnx.to_pure_dict(nnx.merge_state(params, others)), constants, ())

    def apply(params: PyTree, x: Array, *, key: Array | None = None) -> Array:
        state = jax.tree.map(lambda leaf: leaf, nnx.merge_state(*states))
        nnx.replace_by_pure_dict(state, _plain(params))
        module = nnx.merge(graph, state)
        module.set_attributes(use_running_average=True, raise_if_not_found=False)
        if key is None:
            module.set_attributes(deterministic=True, raise_if_not_found=False)
            return module(x)
        streams = [node for _, node in nnx.iter_graph(module) if isinstance(node, nnx.RngKey)]
        for number, stream in enumerate(streams):
            stream[...] = jax.random.fold_in(key, number)
        return module(x)

    return init, apply


def _marked(node: PyTree, constants: set[tuple], path: tuple) -> PyTree:
    """Nested dicts with the leaves at some paths marked as constants."""
    if not isinstance(node, dict):
        return node
    marked = {name: _marked(entry, constants, (*path, name)) for name, entry in node.items()}
    fixed = [name for name in marked if (*path, name) in constants]
    return Variables(marked, fixed) if fixed else marked


def _plain(node: PyTree) -> PyTree:
    """Nested dicts without marks, the constants out of reach of any derivative."""
    if not isinstance(node, dict):
        return node
    fixed = node.constants if isinstance(node, Variables) else ()
    return {
        name: _constant(entry) if name in fixed else _plain(entry) for name, entry in node.items()
    }


def _constant(tree: PyTree) -> PyTree:
    return jax.tree.map(
        lambda leaf: jax.lax.stop_gradient(leaf) if is_parameter(leaf) else leaf, tree
    )
