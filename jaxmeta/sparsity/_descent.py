"""Proximal descent: sparsity in theta, by an optax optimiser."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import optax

from jaxmeta import _optax
from jaxmeta._precision import standard_promotion
from jaxmeta.types import Array, Prox, PyTree


class ProximalState(NamedTuple):
    """The state of the wrapped optimiser, and how many steps were taken.

    Attributes:
      wrapped: the state of the wrapped optimiser.
      count: `[]` int32, steps taken.
    """

    wrapped: optax.OptState
    count: Array


def proximal(
    tx: optax.GradientTransformation,
    prox: Prox,
    *,
    rate: float | Callable[[Array], Array],
    eta: float = 1.0,
) -> optax.GradientTransformation:
    """An optimiser with a proximal operator behind each step, which gives theta exact zeros.

        theta_{t+1} = prox(theta_t + tx(gradient), rate_t * eta)

    The operator has to take a step as long as the gradient's: then gradient descent converges to
    the least of `loss + eta * penalty`. Momentum m makes the same gradient move theta `1 / (1 - m)`
    times as far, which `rate` has to say. An optimiser that scales each entry by itself, such as
    Adam, measures distance otherwise than the operator does. There the operator is decoupled, in
    the manner of AdamW's decay, and `eta` weighs steps, not losses.

    Args:
      tx: any optax optimiser.
      prox: a proximal operator of this package; `optax.masked` restricts the whole to a part of
        theta.
      rate: how far `tx` moves theta for a gradient of one: its learning rate or its schedule; with
        momentum m, divided by `1 - m`.
      eta: weight of the penalty that `prox` is the operator of, zero or more.

    Returns:
      An optax optimiser whose `update` needs the parameters.

    Raises:
      ValueError: if `rate` or `eta` is negative; or, later, if `update` is not given the
        parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from jaxmeta import sparsity
      >>> tx = sparsity.proximal(optax.sgd(0.1), sparsity.soft_threshold, rate=0.1, eta=1.0)
      >>> theta = jnp.array([0.05, 1.0])
      >>> updates, _ = tx.update(jnp.zeros(2), tx.init(theta), theta)
      >>> print(optax.apply_updates(theta, updates))
      [0.  0.9]

    References:
      Beck and Teboulle, A fast iterative shrinkage-thresholding algorithm, 2009.
    """
    if not (callable(rate) or rate >= 0) or not eta >= 0:
        raise ValueError(f"proximal needs a rate and an eta of zero or more, got {rate} and {eta}.")

    def init(params: PyTree) -> ProximalState:
        return ProximalState(tx.init(params), jnp.zeros((), jnp.int32))

    def update(
        updates: PyTree, state: PyTree, params: PyTree | None = None, **extra
    ) -> tuple[PyTree, PyTree]:
        if params is None:
            raise ValueError("proximal moves parameters: call update(updates, state, params).")
        updates, wrapped = _optax.update(tx, updates, state.wrapped, params, **extra)
        now = standard_promotion(rate)(state.count) if callable(rate) else rate
        step = now * eta
        target = prox(optax.apply_updates(params, updates), step)
        # Where the target is zero, parameters plus update are exactly zero.
        return optax.tree.sub(target, params), ProximalState(wrapped, state.count + 1)

    return _optax.like(tx, init, update)
