"""Descent on `w` by an optax optimiser, differentiable in the way that is asked for."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxmeta import _guarded, _optax
from jaxmeta.inner._differentiation import (
    Differentiate,
    Implicit,
    Objective,
    Truncated,
    differentiate_implicitly,
    forward_over_reverse,
    resolve,
)
from jaxmeta.types import Array, PyTree

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
    key: Array | None = None,
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
      key: for an objective with noise, `(w, context, key=...) -> scalar`: step k is given
        `fold_in(key, k)`, the same one when it is computed again. The implicit gradient is that of
        one objective, not of one for each step: there it has no noise.

    Returns:
      A pytree like `start`.

    Raises:
      ValueError: if the optimiser asks for what is not at hand, or if a descent by line search is
        to be differentiated step by step.
    """
    mode = resolve(descent.differentiate)
    carry = (start, _optax.differentiable_init(descent.tx, start))
    reads = _optax.reads(descent.tx, carry[1], start)
    make_step = partial(_make_step, objective, descent=descent, reads=reads, count=count)
    if isinstance(mode, Implicit):
        if trajectory:
            raise ValueError("The implicit gradient is of the last point; it has no trajectory.")
        step = make_step(jax.lax.stop_gradient(context), mode=mode)
        (solution, _), _ = _scan(step, jax.lax.stop_gradient(carry), descent.num_steps)
        return differentiate_implicitly(objective, jax.lax.stop_gradient(solution), context, mode)
    step = make_step(context, mode=mode, key=key)
    if isinstance(mode, Truncated):
        # Two scans: one that chose by k would keep what every step computes.
        num_exact = min(mode.last, descent.num_steps)
        num_cheap = descent.num_steps - num_exact
        cheap = make_step(context, mode="first_order", key=key)
        carry, early = _scan(cheap, carry, num_cheap)
        (last, _), late = _scan(step, carry, num_exact, num_cheap)
        path = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), early, late)
    else:
        (last, _), path = _run(step, carry, descent.num_steps, mode)
    return path if trajectory else last


def _make_step(objective, context, *, descent: Descent, reads, count, mode, key=None):
    """`(carry, k) -> (carry, w)`, one inner step."""
    if key is not None:
        # A key is an argument like the rest of the context: rules of derivatives close over none.
        noisy, objective = objective, lambda w, given: noisy(w, given[0], key=given[1])
    value_and_grad = _value_and_grad(objective, reads, mode)
    first_order = mode == "first_order"
    update = _optax.differentiable_update(descent.tx, reads, first_order=first_order)

    def step(carry: tuple[PyTree, PyTree], k: Array) -> tuple[tuple[PyTree, PyTree], PyTree]:
        w, state = carry = _guarded.bounded_cotangent(carry) if reads.singular else carry
        given = context if key is None else (context, jax.random.fold_in(key, k))
        value, grad = value_and_grad(w, given)
        if first_order:
            value, grad, given = jax.lax.stop_gradient((value, grad, given))
        updates, state = update(grad, state, w, value, lambda w: objective(w, given))
        moved = (_optax.apply_updates(w, updates), state)
        alive = _alive(grad, k, count, descent.tolerance)
        if alive is not None:
            moved = jax.tree.map(lambda new, old: jnp.where(alive, new, old), moved, carry)
        return moved, moved[0]

    return step


def _value_and_grad(objective: Objective, reads: _optax.Reads, mode):
    """The objective and its gradient in w; the one is a constant where no optimiser reads it."""
    if mode in ("mixed", "nested_mixed"):
        gradient = forward_over_reverse(objective)
        value = objective if reads.value else lambda w, context: jnp.zeros(())
        return lambda w, context: (value(w, context), gradient(w, context))
    both = jax.value_and_grad(objective)
    if reads.value:
        return both
    return lambda w, context: (lambda v, g: (jax.lax.stop_gradient(v), g))(*both(w, context))


def _alive(grad: PyTree, k: Array, count: Array | None, tolerance: float) -> Array | None:
    """Whether the descent still moves at step k; None if all of them always do.

    One that stands still has the same gradient the next time: it stays where it is.
    """
    alive = None if count is None else k < count
    if tolerance:
        far = jax.lax.stop_gradient(optax.tree.norm(grad)) > tolerance
        alive = far if alive is None else alive & far
    return alive


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
