"""What counts as a parameter in a tree, and a tree as its parameters and the rest.

A parameter is a floating-point leaf that nothing marks as a constant. Labels, masks, counters and
random keys are no parameters by their dtype; running statistics and cached values look like
parameters, so the network that owns them marks them: it keeps them in a `Variables`.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from jaxmeta.types import Array, PyTree


class Variables(dict):
    """A dict some of whose entries are constants: they travel with the rest and are never trained.

    Neither the outer nor the inner optimiser moves them, weight decay included, and sparsity
    neither penalises, prunes nor counts them.

    Attributes:
      constants: the keys of the entries that are constants, whatever they hold.
    """

    constants: frozenset[Any]

    def __init__(self, entries: dict[Any, PyTree], constants: Iterable[Any]):
        super().__init__(entries)
        self.constants = frozenset(constants)


def _flatten(node: Variables) -> tuple[list[PyTree], tuple]:
    keys = tuple(sorted(node))
    return [node[key] for key in keys], (keys, node.constants)


def _flatten_with_keys(node: Variables) -> tuple[list[tuple[Any, PyTree]], tuple]:
    children, (keys, constants) = _flatten(node)
    named = [jax.tree_util.DictKey(key) for key in keys]
    return list(zip(named, children, strict=True)), (keys, constants)


def _unflatten(structure: tuple, children: Iterable[PyTree]) -> Variables:
    keys, constants = structure
    return Variables(dict(zip(keys, children, strict=True)), constants)


jax.tree_util.register_pytree_with_keys(Variables, _flatten_with_keys, _unflatten, _flatten)


def _is_variables(node: PyTree) -> bool:
    return isinstance(node, Variables)


def is_parameter(leaf: Array) -> bool:
    """Whether a leaf counts as parameters by its dtype, that is, holds floating-point numbers."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def parameter_mask(tree: PyTree) -> PyTree:
    """For each leaf of a tree whether it is a parameter: floating-point, and no constant."""

    def mark(node: PyTree) -> PyTree:
        if not _is_variables(node):
            return is_parameter(node)
        marked = {
            key: jax.tree.map(lambda _: False, entry)
            if key in node.constants
            else parameter_mask(entry)
            for key, entry in node.items()
        }
        return Variables(marked, node.constants)

    return jax.tree.map(mark, tree, is_leaf=_is_variables)


def parameters(w: PyTree) -> list[Array]:
    """The leaves of `w` that are parameters, in tree order."""
    leaves, mask = jax.tree.leaves(w), jax.tree.leaves(parameter_mask(w))
    return [jnp.asarray(leaf) for leaf, chosen in zip(leaves, mask, strict=True) if chosen]


def map_parameters(function: Callable[..., Any], w: PyTree, *rest: PyTree) -> PyTree:
    """Apply a function to every leaf that is a parameter; the others stay as they are.

    Args:
      function: `(leaf, *others) -> leaf`.
      w: any tree.
      rest: further trees, of the same shape or with it as a prefix, whose parts go to `function`.

    Returns:
      A tree of the shape of `w`.
    """
    return jax.tree.map(
        lambda chosen, leaf, *others: function(leaf, *others) if chosen else leaf,
        parameter_mask(w),
        w,
        *rest,
    )


def new_parameters(function: Callable[[Array], Any], w: PyTree) -> PyTree:
    """`function` of every leaf that is a parameter; None in the places of the others."""
    return jax.tree.map(
        lambda chosen, leaf: function(leaf) if chosen else None, parameter_mask(w), w
    )


def split(tree: PyTree, chosen: PyTree | Callable[[Array], bool]) -> tuple[PyTree, PyTree]:
    """A tree as two of its shape: the chosen leaves, and the others; None in the other's places.

    Args:
      tree: any tree.
      chosen: a tree of bools of its shape, or a function of a leaf.
    """
    mask = jax.tree.map(chosen, tree) if callable(chosen) else chosen
    return (
        jax.tree.map(lambda keep, leaf: leaf if keep else None, mask, tree),
        jax.tree.map(lambda keep, leaf: None if keep else leaf, mask, tree),
    )


def merge(one: PyTree, other: PyTree) -> PyTree:
    """The tree that `split` took apart."""
    return jax.tree.map(
        lambda a, b: b if a is None else a, one, other, is_leaf=lambda leaf: leaf is None
    )
