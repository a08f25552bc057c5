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
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxmeta.sparsity import is_parameter
from jaxmeta.types import Array, PyTree
from jaxmeta.validation import check_positive

Objective = Callable[[PyTree, PyTree], Array]
"""`objective(w, context) -> scalar`."""


class Truncated(NamedTuple):
    """Differentiate the `last` steps exactly, and at first order those before.

    References:
      Shaban et al., Truncated back-propagation for bilevel optimization, arXiv:1810.10667. There
      the gradient ends at the cut; here it goes on with the identity, so the start still learns.
    """

    last: int = 1


class Implicit(NamedTuple):
    """Differentiate the condition that the last gradient is zero: the steps play no part.

        d w / d context = -H^{-1} d (grad_w objective) / d context;   H = the Hessian in w

    Right as far as the descent has converged. With a proximal term H is `lambda I` better
    conditioned, and the start has its say through that term (iMAML).

    Attributes:
      solver: `"cg"`, conjugate gradients, or `"neumann"`, `rate * sum_k (I - rate H)^k`.
      num_steps: products with H.
      rate: of the Neumann series: below 2 over the largest eigenvalue of H.

    References:
      Rajeswaran et al., Meta-learning with implicit gradients, arXiv:1909.04630.
      Lorraine, Vicol and Duvenaud, Optimizing millions of hyperparameters by implicit
      differentiation, arXiv:1911.02590.
    """

    solver: Literal["cg", "neumann"] = "cg"
    num_steps: int = 20
    rate: float = 0.1


class Evolution(NamedTuple):
    """Estimate the vector-Jacobian product from antithetic pairs of perturbed descents.

        sum_n e_n <v, w_K(theta + s e_n) - w_K(theta - s e_n)> / (2 s N),   e_n ~ N(0, I)

    For descents that cannot be differentiated. The cosine to the gradient is about
    `sqrt(N / (N + size of theta))`.

    References:
      Salimans et al., Evolution strategies as a scalable alternative to reinforcement learning,
      arXiv:1703.03864.
    """

    num_pairs: int = 64
    stddev: float = 1e-2


Differentiate = (
    Literal[
        "full",
        "first_order",
        "remat",
        "nested",
        "mixed",
        "nested_mixed",
        "truncated",
        "implicit",
        "evolution",
    ]
    | Truncated
    | Implicit
    | Evolution
)

_WITH_SETTINGS = {"truncated": Truncated(), "implicit": Implicit(), "evolution": Evolution()}
_PLAIN = ("full", "first_order", "remat", "nested", "mixed", "nested_mixed")


def resolve(differentiate: Differentiate) -> str | Truncated | Implicit | Evolution:
    """A mode by name or with its settings, checked; names of modes with settings give the defaults.

    Raises:
      ValueError: if there is no such mode, or a setting is out of range.
    """
    mode: Any = differentiate
    if isinstance(mode, str):
        mode = _WITH_SETTINGS.get(mode, mode)
    match mode:
        case Truncated(last):
            if last < 0:
                raise ValueError(f"Truncated keeps 0 or more exact steps, got last={last}.")
        case Implicit(solver, num_steps, rate):
            check_positive(num_steps=num_steps)
            if solver not in ("cg", "neumann") or not rate > 0:
                raise ValueError(
                    "Implicit solves by 'cg' or 'neumann' with a rate above zero, got "
                    f"solver={solver!r}, rate={rate}."
                )
        case Evolution(num_pairs, stddev):
            check_positive(num_pairs=num_pairs)
            if not stddev > 0:
                raise ValueError(f"Evolution perturbs by a stddev above zero, got {stddev}.")
        case _ if mode not in _PLAIN:
            raise ValueError(
                f"differentiate is one of {', '.join([*_PLAIN, *_WITH_SETTINGS])}, or Truncated, "
                f"Implicit or Evolution with settings; got {differentiate!r}."
            )
    return mode


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
        return _differentiate_implicitly(objective, jax.lax.stop_gradient(solution), context, mode)
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
    gradient = _forward_over_reverse(objective) if mixed else jax.grad(objective)

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
    return jax.lax.scan(step, carry, first + jnp.arange(num_steps))


def _forward_over_reverse(objective: Objective) -> Callable[[PyTree, PyTree], PyTree]:
    """`grad_w objective` whose reverse derivative is one forward derivative of a gradient.

    A Hessian is symmetric: its product with v, for which reverse over reverse keeps the whole
    inner gradient, is also the derivative of `grad objective` along v, which keeps nothing.

    References:
      Kemaev et al., Scalable meta-learning via mixed-mode differentiation, arXiv:2505.00793.
    """

    @jax.custom_vjp
    def gradient(w: PyTree, context: PyTree) -> PyTree:
        return jax.grad(objective)(w, context)

    def forward(w, context):
        return gradient(w, context), (w, context)

    def backward(saved, v):
        w, context = saved
        moving, constant = split(context, is_parameter)

        def both(w):
            at = jax.grad(lambda w, moving: objective(w, merge(moving, constant)), argnums=(0, 1))
            return at(w, moving)

        _, (along_w, along_context) = jax.jvp(both, (w,), (v,))
        nothing = jax.tree.map(lambda leaf: np.zeros(leaf.shape, jax.dtypes.float0), constant)
        return along_w, merge(along_context, nothing)

    gradient.defvjp(forward, backward)
    return gradient


def _differentiate_implicitly(objective, solution: PyTree, context: PyTree, mode: Implicit):
    """`solution` as a function of the context, by the implicit function theorem."""
    frozen = jax.lax.stop_gradient(context)

    def hessian(v: PyTree) -> PyTree:
        return jax.jvp(lambda w: jax.grad(objective)(w, frozen), (solution,), (v,))[1]

    def solve(product: Callable[[PyTree], PyTree], b: PyTree) -> PyTree:
        if mode.solver == "cg":
            tol = 10 * max(jnp.finfo(leaf.dtype).eps for leaf in jax.tree.leaves(b))
            return jax.scipy.sparse.linalg.cg(product, b, tol=tol, maxiter=mode.num_steps)[0]

        def term(carry, _):
            total, power = carry
            power = jax.tree.map(lambda p, h: p - mode.rate * h, power, product(power))
            return (jax.tree.map(jnp.add, total, power), power), None

        (total, _), _ = jax.lax.scan(term, (b, b), length=mode.num_steps)
        return jax.tree.map(lambda leaf: mode.rate * leaf, total)

    # Zero in value; its derivative is that of the gradient at the solution, in the context alone.
    residual = jax.grad(objective)(solution, context)
    residual = jax.tree.map(lambda r: r - jax.lax.stop_gradient(r), residual)
    shift = jax.lax.custom_linear_solve(hessian, residual, solve, symmetric=True)
    return jax.tree.map(jnp.subtract, solution, shift)


def evolve(
    function: Callable[[PyTree, PyTree], PyTree], mode: Evolution
) -> Callable[[PyTree, PyTree, Array | None], PyTree]:
    """`(theta, data, key) -> function(theta, data)`, its derivative in theta estimated.

    Raises:
      ValueError: when it is differentiated and key is None.
    """

    @jax.custom_vjp
    def estimated(theta: PyTree, data: PyTree, key: Array | None) -> PyTree:
        return function(theta, data)

    def forward(theta, data, key):
        return function(theta, data), (theta, data, key)

    def backward(saved, v):
        theta, data, key = saved
        if key is None:
            raise ValueError("differentiate='evolution' draws noise: hand adapt a key.")
        moving, constant = split(theta, is_parameter)

        def value(moving):
            w, _ = split(function(merge(moving, constant), data), is_parameter)
            return optax.tree.vdot(split(v, is_parameter)[0], w)

        def pair(total, key):
            noise = optax.tree.random_like(key, moving)
            up = value(optax.tree.add_scale(moving, mode.stddev, noise))
            down = value(optax.tree.add_scale(moving, -mode.stddev, noise))
            slope = (up - down) / (2 * mode.stddev * mode.num_pairs)
            return optax.tree.add_scale(total, slope, noise), None

        keys = jax.random.split(key, mode.num_pairs)
        estimate, _ = jax.lax.scan(pair, optax.tree.zeros_like(moving), keys)
        nothing = jax.tree.map(lambda leaf: np.zeros(leaf.shape, jax.dtypes.float0), constant)
        return merge(estimate, nothing), None, None

    estimated.defvjp(forward, backward)
    return estimated


def split(tree: PyTree, chosen: Callable[[Array], bool]) -> tuple[PyTree, PyTree]:
    """A tree as two of its shape: the chosen leaves, and the others; None in the other's places."""
    return (
        jax.tree.map(lambda leaf: leaf if chosen(leaf) else None, tree),
        jax.tree.map(lambda leaf: None if chosen(leaf) else leaf, tree),
    )


def merge(one: PyTree, other: PyTree) -> PyTree:
    """The tree that `split` took apart."""
    return jax.tree.map(
        lambda a, b: b if a is None else a, one, other, is_leaf=lambda leaf: leaf is None
    )
