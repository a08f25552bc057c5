"""Optax optimisers as the inner and the outer loop take their steps: fed, and differentiable.

Some optimisers ask for more than the gradient: the loss (`value`), the gradient as it came
(`grad`) and the loss as a function (`value_fn`). All three are at hand in both loops.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxmeta import _guarded
from jaxmeta._precision import standard_promotion
from jaxmeta.types import Array, PyTree

_AT_HAND = frozenset({"value", "grad", "value_fn"})

_NO_REVERSE = (
    "The inner optimiser has a loop of unknown length, such as the line search of optax.lbfgs, "
    "through which there is no derivative: use differentiate='first_order', 'implicit' or "
    "'evolution', or an optimiser without a line search (optax.lbfgs(rate, linesearch=None))."
)


class Reads(NamedTuple):
    """What the update of an optimiser does with what it is given.

    Attributes:
      value: whether it reads the loss.
      value_fn: whether it evaluates the loss elsewhere, as a line search does.
      loops: whether it has a loop of unknown length, which has no derivative in reverse.
      singular: whether it takes a root, a quotient or the like, whose slope can be infinite.
    """

    value: bool
    value_fn: bool
    loops: bool
    singular: bool


def init(tx: optax.GradientTransformation, params: PyTree) -> PyTree:
    """`tx.init(params)`; optax mixes types, as strict promotion forbids."""
    return standard_promotion(tx.init)(params)


def differentiable_init(tx: optax.GradientTransformation, params: PyTree) -> PyTree:
    """`init` with a derivative that is finite: a state may hold the norm of the start."""
    program = partial(init, tx)
    if _guarded.is_singular(jax.make_jaxpr(program)(params).jaxpr):
        program = _guarded.finite_derivative(program)
    return program(params)


def update(
    tx: optax.GradientTransformation, updates: PyTree, state: PyTree, params: PyTree, /, **extra
) -> tuple[PyTree, PyTree]:
    """`tx.update`, given those of the extra arguments that it takes: `(updates, state)`."""
    given = {name: extra[name] for name in _taken(tx) & extra.keys()}
    return standard_promotion(tx.update)(updates, state, params, **given)


def like(tx: optax.GradientTransformation, init, update) -> optax.GradientTransformation:
    """A transformation around another; `update(grad, state, params, **extra)` is to pass on."""
    if _taken(tx):
        return optax.GradientTransformationExtraArgs(init, update)

    def plain(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        return update(updates, state, params)

    return optax.GradientTransformation(init, plain)


def _taken(tx: optax.GradientTransformation) -> frozenset[str]:
    """The extra arguments that an update takes by name; a chain takes all and hands them on."""
    parameters = inspect.signature(tx.update).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return _AT_HAND
    return _AT_HAND & parameters.keys()


def reads(tx: optax.GradientTransformation, state: PyTree, params: PyTree) -> Reads:
    """Look at what the update of an optimiser does, by tracing it once.

    Raises:
      ValueError: if it asks for what is not at hand.
    """
    called = []

    def value_fn(params: PyTree) -> Array:
        called.append(True)
        return jnp.asarray(optax.tree.sum(params))

    def program(value: Array, grad: PyTree, state: PyTree, params: PyTree) -> PyTree:
        return update(tx, grad, state, params, value=value, grad=grad, value_fn=value_fn)

    dtype = jnp.result_type(*jax.tree.leaves(params))
    try:
        jaxpr = jax.make_jaxpr(program)(jnp.zeros((), dtype), params, state, params).jaxpr
    except (AttributeError, TypeError) as error:
        raise ValueError(
            "This optimiser asks for what the library does not have. To update it is given the "
            "gradient, its state and the parameters, and value, grad and value_fn if it takes "
            f"them; it says: {error}. Use an optimiser that these are enough for."
        ) from error
    value = jaxpr.invars[0]
    return Reads(
        value=any(value is atom for eqn in jaxpr.eqns for atom in eqn.invars),
        value_fn=bool(called),
        loops="while" in _guarded.operations(jaxpr),
        singular=_guarded.is_singular(jaxpr),
    )


def apply_updates(params: PyTree, updates: PyTree) -> PyTree:
    """`params + updates`, each in the type of the parameter."""
    return standard_promotion(optax.apply_updates)(params, updates)


def differentiable_update(
    tx: optax.GradientTransformation, reads: Reads, *, first_order: bool = False
) -> Callable[..., tuple[PyTree, PyTree]]:
    """`update` with the values of `tx`, and a derivative that is finite, see `finite`.

    Args:
      tx: the optimiser.
      reads: what it does, see `reads`.
      first_order: steps are constants, as they have to be where a loop has no derivative.

    Returns:
      `(updates, state, params, value, value_fn) -> (updates, state)`. It raises ValueError if it
      is differentiated and the optimiser has a loop of unknown length.
    """

    def program(value_fn, updates, state, params, value):
        return update(tx, updates, state, params, value=value, grad=updates, value_fn=value_fn)

    for_all_steps = _guarded.finite_derivative(partial(program, None))

    def ruled(updates, state, params, value, value_fn) -> tuple[PyTree, PyTree]:
        given = (updates, state, params, value)
        here = partial(program, value_fn)
        if reads.loops and first_order:
            return here(*jax.lax.stop_gradient(given))
        if reads.loops:
            return _guarded.no_derivative(here, _NO_REVERSE)(*given)
        if not reads.singular:
            return here(*given)
        return _guarded.finite_derivative(here)(*given) if reads.value_fn else for_all_steps(*given)

    return ruled


def with_gradient(
    function: Callable[[PyTree], Array], gradient: Callable[[PyTree], tuple[PyTree, PyTree]]
) -> Callable[[PyTree], Array]:
    """A function whose gradient is known: the first of what `gradient` returns.

    A line search differentiates the loss. That of a batch is a mean over chunks and devices, whose
    gradient is a mean likewise, and not what differentiating the first mean gives on each device.
    """

    @jax.custom_jvp
    def known(params: PyTree) -> Array:
        return function(params)

    @known.defjvp
    def rule(primals, tangents):
        return function(*primals), optax.tree.vdot(gradient(*primals)[0], *tangents)

    return known
