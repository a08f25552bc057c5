"""Compiled programs of functions that come and go: kept while the functions live, and no longer.

`jax.jit` with a function as a static argument keeps that function for ever, and with it whatever it
closes over, a sampler's data set for one. Here a program holds the arrays that were closed over as
arguments, and none of the functions that it was made of.
"""

import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta._jax_compat import eval_jaxpr
from jaxmeta.types import PyTree

_MOST = 32
"""Programs that are kept; each is machine code of some megabytes."""


class _Entry(NamedTuple):
    """A program, and what takes it out of the cache when one of its functions dies."""

    run: Callable[..., PyTree]
    watches: list[weakref.ref]


_cache: OrderedDict[Hashable, _Entry] = OrderedDict()


def call_compiled(
    make: Callable[[], Callable[..., PyTree]],
    functions: tuple[Callable[..., Any], ...],
    settings: Hashable,
    *args: PyTree,
    place: Callable[[PyTree], PyTree] = lambda constants: constants,
) -> PyTree:
    """`make()(*args)`, compiled; a later call with the same functions finds the program.

    Args:
      make: puts the function together, if it has to be compiled.
      functions: what it is made of; by their identity.
      settings: what else determines it.
      *args: pytrees of arrays.
      place: puts the arrays that it closes over where the program runs.
    """
    shapes = [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in jax.tree.leaves(args)]
    owners = [_owner(function) for function in functions]
    key = (tuple(owners), settings, jax.tree.structure(args), tuple(shapes))
    if key in _cache:
        _cache.move_to_end(key)
        return _cache[key].run(*args)
    run = _without_closure(make(), args, place)
    try:
        watches = [weakref.ref(_watched(f), lambda _: _cache.pop(key, None)) for f in functions]
    except TypeError:  # nobody would tell when such a callable dies
        return run(*args)
    _cache[key] = _Entry(run, watches)
    while len(_cache) > _MOST:
        _cache.popitem(last=False)
    return run(*args)


def _without_closure(
    function: Callable[..., PyTree], args: tuple, place: Callable[[PyTree], PyTree]
) -> Callable[..., PyTree]:
    """The function compiled, with what it closes over as an argument."""
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    constants, jaxpr, structure = place(traced.consts), traced.jaxpr, jax.tree.structure(shapes)
    program = jax.jit(lambda constants, leaves: eval_jaxpr(jaxpr, constants, *leaves))

    def run(*args: PyTree) -> PyTree:
        return structure.unflatten(program(constants, jax.tree.leaves(args)))

    return run


def _watched(function: Callable[..., Any]) -> Any:
    """The object whose life is the function's: a bound method is made anew at each access."""
    return function.__self__ if isinstance(function, types.MethodType) else function


def _owner(function: Callable[..., Any]) -> Hashable:
    bound = isinstance(function, types.MethodType)
    return (id(_watched(function)), function.__func__ if bound else None)
