"""What it takes to differentiate a descent otherwise than step by step: modes and their rules."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxmeta._tree import is_parameter, merge, parameter_mask, split
from jaxmeta._validation import check_positive
from jaxmeta.types import Array, PyTree

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


def forward_over_reverse(objective: Objective) -> Callable[[PyTree, PyTree], PyTree]:
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
        return along_w, merge(along_context, _no_gradient(constant))

    gradient.defvjp(forward, backward)
    return gradient


def differentiate_implicitly(objective, solution: PyTree, context: PyTree, mode: Implicit):
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
        moving, constant = split(theta, parameter_mask(theta))

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
        return merge(estimate, _no_gradient(constant)), None, None

    estimated.defvjp(forward, backward)
    return estimated


def _no_gradient(tree: PyTree) -> PyTree:
    """Zeros of the types that JAX wants for the gradients of these leaves."""

    def zeros(leaf: Array) -> Any:
        inexact = jnp.issubdtype(leaf.dtype, jnp.inexact)
        return jnp.zeros_like(leaf) if inexact else np.zeros(leaf.shape, jax.dtypes.float0)

    return jax.tree.map(zeros, tree)
