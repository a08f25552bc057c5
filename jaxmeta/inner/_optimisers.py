"""Inner optimisers with parameters of their own: learned rates, and which entries may move."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxmeta import _optax
from jaxmeta.sparsity import Gate
from jaxmeta.types import Array, PyTree


class LearnedOptimiser(NamedTuple):
    """An inner optimiser with parameters of its own, which meta-optimisation learns.

    Attributes:
      init: `w -> parameters`, from the entries of w that move.
      build: `(parameters, key) -> optax.GradientTransformation`; `key=None` asks for no noise.
    """

    init: Callable[[PyTree], PyTree]
    build: Callable[[PyTree, Array | None], optax.GradientTransformation]


def learned_rates(
    rate: float, *, per: str = "entry", num_steps: int | None = None
) -> LearnedOptimiser:
    """Gradient descent whose step sizes are learned.

    Args:
      rate: where they start.
      per: `"entry"` (Meta-SGD: a rate, and so a sign, for every number) or `"leaf"`.
      num_steps: a rate for each of that many steps as well (MAML++); later steps use the last.

    Raises:
      ValueError: for another `per`.

    Example:
      >>> from jaxmeta import inner, learners, losses, networks, transforms
      >>> start = learners.learned_init(networks.mlp([8]), ways=2)
      >>> rates = inner.learned_rates(0.1, per="leaf")
      >>> learner = transforms.fine_tune(start, losses.cross_entropy, rates, num_steps=2)

    References:
      Li et al., Meta-SGD, arXiv:1707.09835.
      Antoniou, Edwards and Storkey, How to train your MAML, arXiv:1810.09502.
    """
    if per not in ("entry", "leaf"):
        raise ValueError(f"learned_rates learns rates per 'entry' or 'leaf', got {per!r}.")
    steps = () if num_steps is None else (num_steps,)

    def init(w: PyTree) -> PyTree:
        def rates(leaf: Array) -> Array:
            return jnp.full(steps + (leaf.shape if per == "entry" else ()), rate, leaf.dtype)

        return jax.tree.map(rates, w)

    def build(rates: PyTree, key: Array | None) -> optax.GradientTransformation:
        del key

        def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
            del params

            def scaled(gradient: Array, rate: Array) -> Array:
                rate = rate if num_steps is None else rate[jnp.minimum(state, num_steps - 1)]
                return -jnp.broadcast_to(rate, gradient.shape) * gradient

            return jax.tree.map(scaled, updates, rates), state + 1

        return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)

    return LearnedOptimiser(init, build)


class MaskedUpdates(NamedTuple):
    """Parameters of a gated optimiser: of the one inside, if it has any, and of the gate."""

    optimiser: PyTree
    gate: PyTree


def masked_updates(
    tx: optax.GradientTransformation | LearnedOptimiser, gate: Gate
) -> LearnedOptimiser:
    """An inner optimiser for `fine_tune` whose updates pass a gate, the same one at each step.

        w_{k+1} = w_k + gate * tx(gradient)

    Where the gate is shut, `w` stays at its start for every task: what adaptation has to compute,
    keep and ship is what is left.

    Args:
      tx: the optimiser; one that learns keeps its parameters.
      gate: see `jaxmeta.sparsity`; `sparsity.masked` leaves a part of `w`, such as a head, free.

    Returns:
      A `LearnedOptimiser` whose parameters are a `MaskedUpdates`.

    Example:
      >>> import optax
      >>> from jaxmeta import inner, learners, losses, networks, sparsity, transforms
      >>> start = learners.learned_init(networks.mlp([8]), ways=2)
      >>> tx = inner.masked_updates(optax.sgd(0.1), sparsity.learned_threshold())
      >>> learner = transforms.fine_tune(start, losses.cross_entropy, tx, num_steps=2)

    References:
      von Oswald et al., Learning where to learn: gradient sparsity in meta and continual learning,
      arXiv:2110.14402.
    """
    learned = isinstance(tx, LearnedOptimiser)

    def init(w: PyTree) -> MaskedUpdates:
        return MaskedUpdates(tx.init(w) if learned else (), gate.init(w))

    def build(parameters: MaskedUpdates, key: Array | None) -> optax.GradientTransformation:
        inner = tx.build(parameters.optimiser, key) if learned else tx

        def update(
            updates: PyTree, state: PyTree, params: PyTree = None, **extra
        ) -> tuple[PyTree, PyTree]:
            updates, state = _optax.update(inner, updates, state, params, **extra)
            return gate.apply(parameters.gate, updates, key), state

        return _optax.like(inner, inner.init, update)

    return LearnedOptimiser(init, build)
