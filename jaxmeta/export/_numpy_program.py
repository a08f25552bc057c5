"""A function of JAX as a program that NumPy runs: what `adapt` computes leaves JAX too."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxmeta._jax_compat import Literal, expanded
from jaxmeta._numpy_program import VERSION, stored
from jaxmeta.export._numpy_settings import native, operation

_CALLS = ("jit", "pjit", "closed_call", "remat2", "custom_jvp_call", "custom_vjp_call")
_NOTHING = ("stop_gradient", "copy", "optimization_barrier", "checkpoint_name", "device_put")


def numpy_program(function: Callable[..., Any], *args: Any) -> str:
    """Trace a function of arrays into a program for `load_program`.

    Unlike `stablehlo`, what comes of it starts in milliseconds and needs neither JAX nor a
    compiler: for a function that is called once in a process, such as a meta-net's `adapt`.
    Shapes are those of `args`; loops and branches stay loops and branches.

    Args:
      function: of any trees of arrays; its results are the leaves of what it returns, in order.
      args: arrays, or anything with a shape and a dtype.

    Returns:
      The program, as text.

    Raises:
      NotImplementedError: for an operation that NumPy has no counterpart for here, such as random
        numbers or convolutions, or numbers that NumPy does not know (bfloat16).

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from jaxmeta.export import load_program, numpy_program
      >>> text = numpy_program(lambda w, x: jnp.tanh(x @ w), jnp.ones((3, 2)), jnp.ones((4, 3)))
      >>> (y,) = load_program(text, np.ones((3, 2), np.float32))(np.zeros((4, 3), np.float32))
      >>> y.shape
      (4, 2)
    """
    closed = jax.make_jaxpr(function)(*args)
    takes = [[[*aval.shape], native(aval.dtype).name] for aval in closed.in_avals]
    document = _document(closed) | {"version": VERSION, "takes": takes}
    return json.dumps(document, separators=(",", ":"))


class _Writer:
    """One program while it is written."""

    def __init__(self) -> None:
        self.places = 0
        self.constants: list[Any] = []
        self.steps: list[Any] = []

    def place(self) -> int:
        self.places += 1
        return self.places - 1

    def constant(self, value: Any, dtype: Any) -> int:
        place = self.place()
        self.constants.append([place, stored(np.asarray(value, native(dtype)))])
        return place

    def inline(self, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[int]) -> list[int]:
        """The steps of a jaxpr whose inputs are in these places; where its results are."""
        at: dict[Any, int] = dict(zip(jaxpr.invars, inputs, strict=True))
        for variable, value in zip(jaxpr.constvars, consts, strict=True):
            at[variable] = self.constant(value, variable.aval.dtype)

        def read(variable: Any) -> int:
            aval: Any = variable.aval
            if isinstance(variable, Literal):
                return self.constant(variable.val, aval.dtype)
            return at[variable]

        for eqn in jaxpr.eqns:
            operands = [read(variable) for variable in eqn.invars]
            name = eqn.primitive.name
            composite = expanded(eqn)
            if name in _CALLS or composite is not None:
                inner: Any = composite or eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
                closed = getattr(inner, "jaxpr", inner)
                results = self.inline(closed, getattr(inner, "consts", ()), operands)
            elif name in _NOTHING or _is_identity(eqn):
                results = operands
            elif name == "custom_linear_solve":
                results = self.solve(eqn, operands)
            elif name == "platform_index":
                results = [self.constant(_index_of_cpu(eqn.params["platforms"]), np.int32)]
            else:
                results = [self.place() for _ in eqn.outvars]
                self.steps.append([*operation(eqn, _document), operands, results])
            at.update(zip(eqn.outvars, results, strict=True))
        return [read(variable) for variable in jaxpr.outvars]

    def solve(self, eqn: Any, operands: list[int]) -> list[int]:
        """A linear equation by its solver, not by what says how to differentiate it."""
        counts, solver = eqn.params["const_lengths"], eqn.params["jaxprs"].solve
        start = counts.matvec + counts.vecmat
        consts = operands[start : start + counts.solve]
        return self.inline(solver.jaxpr, solver.consts, [*consts, *operands[sum(counts) :]])


def _is_identity(eqn: Any) -> bool:
    if eqn.primitive.name not in ("convert_element_type", "broadcast_in_dim", "reshape"):
        return False
    (x, *_), y = eqn.invars, eqn.outvars[0]
    return x.aval.shape == y.aval.shape and x.aval.dtype == y.aval.dtype


def _index_of_cpu(platforms: Sequence[Any]) -> int:
    return next(i for i, names in enumerate(platforms) if names is None or "cpu" in names)


def _document(closed: Any) -> dict[str, Any]:
    writer = _Writer()
    inputs = [writer.place() for _ in closed.jaxpr.invars]
    outputs = writer.inline(closed.jaxpr, closed.consts, inputs)
    needed, steps = set(outputs), []
    for step in reversed(writer.steps):
        if needed.intersection(step[3]):
            needed.update(step[2])
            steps.append(step)
    return {
        "places": writer.places,
        "inputs": inputs,
        "outputs": outputs,
        "constants": [each for each in writer.constants if each[0] in needed],
        "steps": steps[::-1],
    }
