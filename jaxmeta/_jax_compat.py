"""All that this package uses of jax beyond its documented interface, in one place.

Held by `tests/test_jax_compat.py` on the versions in `TESTED`. Where a new version of jax
moves one of these names, this is the file to mend.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Primitive
from jax.interpreters import ad, batching, mlir

from jaxmeta.types import PyTree

__all__ = [
    "TESTED",
    "ClosedJaxpr",
    "Jaxpr",
    "JaxprEqn",
    "Literal",
    "Primitive",
    "define_batching",
    "define_bilinear",
    "define_lowering",
    "eval_jaxpr",
    "expanded",
    "inner_jaxprs",
    "is_concrete",
    "varying_axes",
]

TESTED = ("0.10.2", "0.12.0.1")

eval_jaxpr = jax.core.eval_jaxpr


def is_concrete(*trees: PyTree) -> bool:
    """Whether every leaf has a value, and none is a stand-in for one that is being traced."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))


def varying_axes(array: Any) -> frozenset[str]:
    """The mesh axes along which `array` differs where `jax.shard_map` keeps count of them."""
    aval = array if isinstance(array, jax.ShapeDtypeStruct) else jax.typeof(array)
    return frozenset(getattr(getattr(aval, "manual_axis_type", None), "varying", None) or ())


def inner_jaxprs(equation: JaxprEqn) -> list[Jaxpr]:
    """The programs that an equation runs: a loop's body, a branch, a function that is called."""
    params = jax.tree.leaves(list(equation.params.values()))
    programs = [getattr(param, "jaxpr", param) for param in params]
    return [program for program in programs if isinstance(program, Jaxpr)]


def expanded(equation: JaxprEqn) -> ClosedJaxpr | None:
    """The program of an operation that is one only while it is traced; None if it is none such."""
    composite = equation.params.get("_prim")
    if composite is None:
        return None
    avals: list[Any] = [variable.aval for variable in equation.invars]
    shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals]
    return jax.make_jaxpr(composite.expand)(*shapes)


def define_bilinear(primitive: Primitive, left: Callable, right: Callable) -> None:
    """Give a product its derivatives: `left` and `right` transpose it in its two arguments."""
    ad.defbilinear(primitive, left, right)


def define_batching(primitive: Primitive, rule: Callable) -> None:
    """Give a primitive its rule under `jax.vmap`."""
    batching.primitive_batchers[primitive] = rule


def define_lowering(primitive: Primitive, compute: Callable, platform: str | None) -> None:
    """Compile a primitive as `compute`, in functions of jax, on one platform or on all (None)."""
    rule = mlir.lower_fun(compute, multiple_results=False)
    mlir.register_lowering(primitive, rule, platform=platform)
