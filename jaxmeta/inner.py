"""The inner loop: descent on `w` by an optax optimiser, and every way to differentiate it.

    w_{k+1} = w_k + tx.update(grad_w objective(w_k, context));   w_K is returned

The gradient of `w_K` in the start and in the context, which is what meta-optimisation asks for, is
exact, cheap or estimated as `differentiate` says:

| `differentiate` | gradient | memory grows with | work |
| --- | --- | --- | --- |
| `"full"` | exact | the steps, with all that a step computes | 1 |
| `"remat"` | exact | the steps, with `w` alone | one more forward pass |
| `"mixed"` | exact | the steps, with `w` alone | forward over reverse |
| `"nested"`, `"nested_mixed"` | exact | the square root of the steps | one or two more passes |
| `"first_order"` | the step's gradient is a constant | nothing | less than 1 |
| `Truncated(last)` | exact in the last steps, first-order before | `last` | |
| `Implicit(...)` | exact where the gradient is zero | nothing | a linear solve |
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxmeta.differentiation import (
    Differentiate,
    Evolution,
    Implicit,
    Objective,
    Truncated,
    differentiate_implicitly,
    evolve,
    forward_over_reverse,
    merge,
    resolve,
)
from jaxmeta.types import Array, PyTree

__all__ = [
    "Descent",
    "Differentiate",
    "Evolution",
    "Implicit",
    "Truncated",
    "descend",
    "evolve",
    "merge",
    "resolve",
]


_FEW, _SMALL = 5, 2**14


class Descent(NamedTuple):
    """How to descend.

    Attributes:
      tx: any optax optimiser.
      num_steps: the most steps K.
      differentiate: see the module.
      tolerance: a descent stands still once the norm of its gradient is this or less.
    """

    tx: optax.GradientTransformation
    num_steps: int
    differentiate: Differentiate = "full"
    tolerance: float = 0.0


def descend(
    objective: Objective,
    start: PyTree,
    context: PyTree,
    descent: Descent,
    *,
    count: Array | None = None,
    trajectory: bool = False,
) -> PyTree:
    """`w_K`, from `start`, by descent on `objective(w, context)`.

    Args:
      objective: `(w, context) -> scalar`. What it is to be differentiated in goes through
        `context`, not through its closure.
      start: `w_0`, a pytree of floating-point arrays.
      context: whatever else the objective reads; leaves that are not floating-point are constants.
      descent: optimiser, steps, and how to differentiate (`Evolution` excepted: see `evolve`).
      count: `[]` int, how many of the steps this descent takes; all by default. It is data: under
        vmap each task has its own, in one program.
      trajectory: return `w_1 ... w_K` stacked, `[K, ...]`, instead of the last.

    Returns:
      A pytree like `start`.
    """
    mode = resolve(descent.differentiate)
    step = _make_step(objective, context, descent, mode, count)
    carry = (start, descent.tx.init(start))
    if isinstance(mode, Implicit):
        if trajectory:
            raise ValueError("The implicit gradient is of the last point; it has no trajectory.")
        frozen = jax.lax.stop_gradient(context)
        step = _make_step(objective, frozen, descent, mode, count)
        (solution, _), _ = _scan(step, jax.lax.stop_gradient(carry), descent.num_steps)
        return differentiate_implicitly(objective, jax.lax.stop_gradient(solution), context, mode)
    if isinstance(mode, Truncated):
        # Two scans: one that chose by k would keep what every step computes.
        num_exact = min(mode.last, descent.num_steps)
        num_cheap = descent.num_steps - num_exact
        cheap = _make_step(objective, context, descent, "first_order", count)
        carry, early = _scan(cheap, carry, num_cheap)
        (last, _), late = _scan(step, carry, num_exact, num_cheap)
        path = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), early, late)
    else:
        (last, _), path = _run(step, carry, descent.num_steps, mode)
    return path if trajectory else last


def _make_step(objective, context, descent: Descent, mode, count):
    """`(carry, k) -> (carry, w)`, one inner step."""
    mixed = mode in ("mixed", "nested_mixed")
    gradient = forward_over_reverse(objective) if mixed else jax.grad(objective)

    def step(carry: tuple[PyTree, PyTree], k: Array) -> tuple[tuple[PyTree, PyTree], PyTree]:
        w, state = carry
        grad = gradient(w, context)
        if mode == "first_order":
            grad = jax.lax.stop_gradient(grad)
        updates, state = _safe_update(descent.tx, grad, state, w)
        moved = (optax.apply_updates(w, updates), state)
        alive = _alive(grad, k, count, descent.tolerance)
        if alive is not None:
            moved = jax.tree.map(lambda new, old: jnp.where(alive, new, old), moved, carry)
        return moved, moved[0]

    return step


def _alive(grad: PyTree, k: Array, count: Array | None, tolerance: float) -> Array | None:
    """Whether the descent still moves at step k; None if all of them always do.

    One that stands still has the same gradient the next time: it stays where it is.
    """
    alive = None if count is None else k < count
    if tolerance:
        far = jax.lax.stop_gradient(optax.tree.norm(grad)) > tolerance
        alive = far if alive is None else alive & far
    return alive


def _safe_update(tx: optax.GradientTransformation, grad, state, w):
    """`tx.update` whose derivative is finite at gradients of zero, where Adam's square root is not.

    The values are those of `tx`; the derivative is taken at a gradient of 1e-16 where it is zero.
    Optimisers without floating-point state, plain gradient descent among them, take no roots.
    """
    if not any(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in jax.tree.leaves(state)):
        return tx.update(grad, state, w)
    nudged = jax.tree.map(lambda g: jnp.where(g == 0, jnp.asarray(1e-16, g.dtype), g), grad)
    smooth = tx.update(nudged, state, w)
    exact = jax.lax.stop_gradient(tx.update(grad, state, w))
    return jax.tree.map(_value_of, exact, smooth)


def _value_of(value: Array, derivative: Array) -> Array:
    """The value of one array with the derivative of another."""
    if not jnp.issubdtype(value.dtype, jnp.inexact):
        return value
    return derivative + jax.lax.stop_gradient(value - derivative)


def _run(step, carry, num_steps: int, mode):
    """The steps, with what the backward pass is to keep of them."""
    if mode == "remat":
        return _scan(jax.checkpoint(step, prevent_cse=False), carry, num_steps)
    if mode not in ("nested", "nested_mixed"):
        return _scan(step, carry, num_steps)
    # Square-root checkpointing: keep the first carry of each segment, and run a segment again
    # when the backward pass reaches it.
    length = max(1, math.isqrt(num_steps))
    inner = step if mode == "nested_mixed" else jax.checkpoint(step, prevent_cse=False)

    @jax.checkpoint
    def segment(carry, first):
        return _scan(inner, carry, length, first)

    num_segments = num_steps // length
    carry, path = jax.lax.scan(segment, carry, length * jnp.arange(num_segments))
    path = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), path)
    carry, rest = _scan(inner, carry, num_steps - num_segments * length, num_segments * length)
    return carry, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), path, rest)


def _scan(step, carry, num_steps: int, first: Array | int = 0):
    small = sum(leaf.size for leaf in jax.tree.leaves(carry)) <= _SMALL
    if not (small and 0 < num_steps <= _FEW):
        return jax.lax.scan(step, carry, first + jnp.arange(num_steps))
    # Few steps on few numbers cost less than the loop around them.
    path = []
    for k in range(num_steps):
        carry, w = step(carry, jnp.asarray(first + k))
        path.append(w)
    return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *path)
