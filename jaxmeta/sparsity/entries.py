"""What counts as a parameter of `w`: its floating-point leaves."""

import jax
import jax.numpy as jnp

from jaxmeta.types import Array, PyTree


def is_parameter(leaf: Array) -> bool:
    """Whether a leaf of `w` counts as parameters, that is, holds floating-point numbers."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def parameters(w: PyTree) -> list[Array]:
    """The leaves of `w` that are parameters, in tree order."""
    return [jnp.asarray(leaf) for leaf in jax.tree.leaves(w) if is_parameter(leaf)]


def map_parameters(function, w: PyTree, *rest: PyTree) -> PyTree:
    """`function` of every leaf that is a parameter; the others as they are."""
    return jax.tree.map(
        lambda leaf, *others: function(leaf, *others) if is_parameter(leaf) else leaf, w, *rest
    )
