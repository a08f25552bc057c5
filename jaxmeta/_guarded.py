"""Derivatives that are finite where the function is: no slope of a root at zero makes a NaN.

A function such as `where(|g| < bound, g, g / |g| * bound)` is smooth at zero, but the chain rule
gets there by the slope of the root, which is infinite, and by a quotient of zero in the branch that
is not taken: zero times infinity is NaN. Here every elementary operation whose own slope is not
finite has the slope zero at that point, and the rules of differentiation do the rest: the branch
that is taken counts alone, and `|g|` is flat at its corner.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxmeta._jax_compat import Jaxpr, JaxprEqn, Literal, eval_jaxpr, is_concrete
from jaxmeta.types import Array, PyTree

_SINGULAR = frozenset({"cbrt", "div", "integer_pow", "log", "log1p", "pow", "rsqrt", "sqrt"})
"""Operations, elementwise, with finite operands at which the slope is infinite."""

_GUARDED = _SINGULAR | {"exp", "mul", "square"}
"""And those whose slope is infinite where an operand is, as the others' results can be."""


def finite_derivative(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """`function`, to the bit, with its derivative guarded as the module says.

    Wherever the derivative is finite without this, it is the same. Forward and reverse mode and
    their compositions work, and so do derivatives in what `function` closes over.

    Args:
      function: of pytrees of arrays; traced at its first call alone, if the next are like it.
    """

    def slopes(jaxpr: Jaxpr, primals, tangents):
        # Types were mixed, if at all, where the program was traced.
        with jax.numpy_dtype_promotion("standard"):
            return jax.jvp(partial(_evaluate, jaxpr), primals, tangents)[1]

    return _with_rule(function, slopes)


def no_derivative(function: Callable[..., PyTree], sentence: str) -> Callable[..., PyTree]:
    """`function`, with a ValueError that says `sentence` when it is differentiated."""

    def refuse(jaxpr: Jaxpr, primals, tangents):
        raise ValueError(sentence)

    return _with_rule(function, refuse)


def operations(jaxpr: Jaxpr) -> set[str]:
    """The names of all operations of a program, those of its loops and branches included."""
    names = set()
    for eqn in jaxpr.eqns:
        names.add(eqn.primitive.name)
        for part in jax.tree.leaves(
            list(eqn.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")
        ):
            if hasattr(part, "eqns"):
                names |= operations(getattr(part, "jaxpr", part))
    return names


def is_singular(jaxpr: Jaxpr) -> bool:
    """Whether a program has an operation whose slope can be infinite."""
    return not _SINGULAR.isdisjoint(operations(jaxpr))


def _with_rule(function: Callable[..., PyTree], slopes) -> Callable[..., PyTree]:
    """`function`; `slopes(jaxpr, primals, tangents)` are the tangents of its flat results.

    What it closes over, such as learned rates, is an argument of the rule like the others.
    """
    traced = {}

    def ruled(*args: PyTree) -> PyTree:
        leaves, structure = jax.tree.flatten(args)
        kind = (structure, *map(jax.typeof, leaves))
        if kind not in traced:
            program, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
            flat = lambda *leaves: jax.tree.leaves(function(*jax.tree.unflatten(structure, leaves)))  # noqa: E731
            call = _flat_with_rule(flat, program, slopes)
            traced[kind] = (call, program.consts, jax.tree.structure(shapes))
        call, consts, results = traced[kind]
        return jax.tree.unflatten(results, call(consts, leaves))

    return ruled


def _flat_with_rule(flat: Callable[..., list[Array]], program, slopes):
    """`(consts, args) -> results` of a program, which is that of `flat`."""
    closed = is_concrete(program.consts)
    # Compiled, so that the steps of a loop written out share one trace of it.
    slopes = jax.jit(partial(slopes, program.jaxpr))

    @jax.custom_jvp
    def call(consts: list[Array], args: list[Array]) -> list[Array]:
        if closed:  # What is compiled inside of it stays so, where nothing else is.
            return flat(*args)
        return eval_jaxpr(program.jaxpr, consts, *args)

    @call.defjvp
    def rule(primals, tangents):
        # The values are the program's own, to the bit.
        return call(*primals), slopes(primals, tangents)

    return call


def _evaluate(jaxpr: Jaxpr, consts: list[Array], args: list[Array]) -> list[Array]:
    """What `eval_jaxpr` gives, operation by operation, each guarded."""
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(atom) -> Array:
        return atom.val if isinstance(atom, Literal) else known[atom]

    for eqn in jaxpr.eqns:
        known.update(zip(eqn.outvars, _operate(eqn, read), strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _operate(eqn: JaxprEqn, read: Callable[[Any], Array]) -> list[Array]:
    """The results of one operation, guarded or made of guarded ones."""
    params, values = eqn.params, [read(atom) for atom in eqn.invars]
    match eqn.primitive.name:
        case "jit":
            return _evaluate(params["jaxpr"].jaxpr, params["jaxpr"].consts, values)
        case "cond":
            params = params | {"branches": tuple(map(_guarded, params["branches"]))}
        case "scan":
            params = params | {"jaxpr": _guarded(params["jaxpr"])}
    bind = partial(eqn.primitive.bind, **eqn.primitive.get_bind_params(params))
    if eqn.primitive.multiple_results:
        return bind(*values)
    if eqn.primitive.name in _GUARDED and jnp.issubdtype(jnp.result_type(values[0]), jnp.floating):
        return [_guard(bind, [isinstance(atom, Literal) for atom in eqn.invars])(*values)]
    return [bind(*values)]


def _guarded(program):
    """A program within the program, each of its operations guarded."""
    like = [
        jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype, weak_type=atom.aval.weak_type)
        for atom in program.jaxpr.invars
    ]
    return jax.make_jaxpr(lambda *args: _evaluate(program.jaxpr, program.consts, list(args)))(*like)


def _guard(operation: Callable[..., Array], constant: list[bool]) -> Callable[..., Array]:
    """One elementwise operation, its slopes zero where they are not finite."""
    guarded = jax.custom_jvp(operation)

    @guarded.defjvp
    def rule(values, tangents):
        result = guarded(*values)
        total = jnp.zeros_like(result)
        for i, (value, tangent) in enumerate(zip(values, tangents, strict=True)):
            if not constant[i] and jnp.issubdtype(value.dtype, jnp.floating):
                along = lambda x, i=i: operation(*values[:i], x, *values[i + 1 :])  # noqa: E731
                _, slope = jax.jvp(along, (value,), (jnp.ones_like(value),))
                total += jnp.where(jnp.isfinite(slope), slope, 0) * tangent
        return result, total

    return guarded


def bounded_cotangent(tree: PyTree) -> PyTree:
    """A tree as it is; in reverse mode what comes back through it is cut off where it is absurd.

    An optimiser that divides a gradient by its own size has a slope of 1e8 where that is zero, and
    a few steps of it multiply to more than numbers can hold, infinity, and then NaN. Beyond the
    root of the largest number, 1e19 in single precision, no gradient means anything but its sign.
    NaN stays NaN. Half precision has no room for such a bound.
    """

    def cut(leaf: Array) -> Array:
        most = float(jnp.finfo(leaf.dtype).max) ** 0.5
        return leaf if most < 1e9 else jnp.clip(leaf, -most, most)

    def bounded(leaf: Array) -> Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        # A linear map, so that forward mode and vmap know it, whose transpose is ours to define.
        return jax.lax.custom_linear_solve(
            lambda x: x, leaf, solve=lambda _, x: x, transpose_solve=lambda _, x: cut(x)
        )

    return jax.tree.map(bounded, tree)
