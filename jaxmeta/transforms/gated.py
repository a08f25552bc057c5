"""Sparse adaptation: which entries of `w` may move is learned."""

from typing import NamedTuple

import optax

from jaxmeta import optimisers
from jaxmeta.sparsity import Gate
from jaxmeta.transforms.fine_tune import LearnedOptimiser
from jaxmeta.types import Array, PyTree


class GatedUpdates(NamedTuple):
    """Parameters of a gated optimiser: of the one inside, if it has any, and of the gate."""

    optimiser: PyTree
    gate: PyTree


def gated(tx: optax.GradientTransformation | LearnedOptimiser, gate: Gate) -> LearnedOptimiser:
    """An inner optimiser for `fine_tune` whose updates pass a gate, the same one at each step.

        w_{k+1} = w_k + gate * tx(gradient)

    Where the gate is shut, `w` stays at its start for every task: what adaptation has to compute,
    keep and ship is what is left.

    Args:
      tx: the optimiser; one that learns keeps its parameters.
      gate: see `jaxmeta.sparsity`; `sparsity.only` leaves a part of `w`, such as a head, free.

    References:
      von Oswald et al., Learning where to learn: gradient sparsity in meta and continual learning,
      arXiv:2110.14402.
    """
    learned = isinstance(tx, LearnedOptimiser)

    def init(w: PyTree) -> GatedUpdates:
        return GatedUpdates(tx.init(w) if learned else (), gate.init(w))

    def build(parameters: GatedUpdates, key: Array | None) -> optax.GradientTransformation:
        inner = tx.build(parameters.optimiser, key) if learned else tx

        def update(
            updates: PyTree, state: PyTree, params: PyTree = None, **extra
        ) -> tuple[PyTree, PyTree]:
            updates, state = optimisers.update(inner, updates, state, params, **extra)
            return gate.apply(parameters.gate, updates, key), state

        return optimisers.like(inner, inner.init, update)

    return LearnedOptimiser(init, build)
