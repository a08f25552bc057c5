"""The learners of `sparsity_path`, and the mechanisms by which a hypernetwork's `w` gets sparse."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.sparse.gates import closing, moving_share
from jaxmeta import (
    Examples,
    MetaLearner,
    learners,
    losses,
    meta_objective,
    networks,
    sparsity,
    transforms,
)
from jaxmeta.types import Array, LossFn, Prox, PyTree

Build = Callable[[float | Array], MetaLearner]
"""From the share of entries that is kept to a learner; theta is the same for every share."""

WHOLE_INPUTS = "whole inputs, closing"
"""The mechanism whose learner is exported: what is left of it is a smaller matrix."""

INNER_STEPS, INNER_RATE = 3, 0.1
LEAST = 0.01
"""The smallest share that learners are trained for."""


class Entry(NamedTuple):
    """One training of the experiment.

    Attributes:
      build: the learner at a share.
      loss_fn: `outer steps -> objective`; by default the meta-objective of `build(1.0)`.
      rate: outer learning rate.
      any_share: whether one training serves every share, or one alone.
    """

    build: Build
    loss_fn: Callable[[int], LossFn] | None = None
    rate: float = 3e-3
    any_share: bool = True

    def objective(self, steps: int) -> LossFn:
        """What is trained on."""
        return self.loss_fn(steps) if self.loss_fn else objective(self.build(1.0))


def sized(entry: Entry) -> MetaLearner:
    """The learner with the share in theta: one program judges every share."""

    def adapt(theta: Any, support: Examples, *, description: Any = None, key: Any = None) -> Any:
        own, share = theta
        return entry.build(share).adapt(own, support, description=description, key=key)

    def predict(theta: Any, w: Any, x: jax.Array) -> jax.Array:
        own, share = theta
        return entry.build(share).predict(own, w, x)

    return MetaLearner(entry.build(1.0).init, adapt, predict)


objective = partial(
    meta_objective, task_loss=losses.cross_entropy, metrics={"accuracy": losses.accuracy}
)


def scaled() -> networks.InitApply:
    """A learned weight for each feature: which of them are worth keeping."""
    return networks.InitApply(
        lambda key, x: jnp.ones(x.shape[-1]), lambda params, x: x * params[None]
    )


def path_learners(ways: int) -> dict[str, Entry]:
    """Learners of embeddings, each trained once for every share."""

    def any_share(learner: MetaLearner, per: sparsity.Per) -> Build:
        return lambda share: transforms.nested_sparsity(learner, share, least=LEAST, per=per)

    def maml(share: float | Array) -> MetaLearner:
        tx = moving_share(optax.sgd(INNER_RATE), share, least=LEAST)
        return learners.maml(networks.mlp([64]), tx=tx, num_steps=INNER_STEPS, ways=ways)

    prototypes = learners.prototypes(scaled(), distance="cosine", ways=ways)
    return {
        "hypernet": Entry(any_share(hypernet(ways, told=True), "leaf")),
        "matching": Entry(any_share(learners.matching(scaled(), ways=ways), "row")),
        "prototypes": Entry(any_share(prototypes, "row")),
        "ridge": Entry(any_share(learners.ridge(scaled(), ways=ways), "leaf")),
        "maml": Entry(maml),
    }


def hypernet(ways: int, *, told: bool = False) -> MetaLearner:
    """A hypernetwork that emits a linear learner; `told` how sparse it is to be, if it is to be."""
    source = "both" if told else "support"
    return learners.hypernet(networks.identity(), out_size=ways, hidden=(), source=source)


def mechanisms(ways: int, density: float) -> dict[str, Entry]:
    """Ways to one density of the same hypernetwork, each trained by itself."""
    plain = hypernet(ways)
    target = sparsity.TargetDensity(density, start=0.3, rate=5.0)
    held = transforms.sparsify(plain, sparsity.relative(sparsity.soft_threshold), step=target)
    gates = sparsity.hard_concrete(0.9, shared=-1)
    concrete = transforms.with_multiplier(transforms.sparsify(plain, gates))
    weighed = target._replace(start=1e-3, rate=2.0)

    def open_gates(theta: PyTree) -> Array:
        return sparsity.expected_l0(theta.learner.gate)

    def fixed(prox: Prox) -> Entry:
        learner = transforms.sparsify(plain, prox)
        return _alone(learner, lambda steps: objective(learner))

    def l1(steps: int) -> LossFn:
        return objective(plain, penalty=sparsity.l1, eta=1e-4)

    by_leaf = sparsity.top_k(density, per="leaf")
    return {
        "dense": _alone(plain, lambda steps: objective(plain)),
        "top-k after l1 training": _alone(transforms.sparsify(plain, by_leaf), l1),
        "top-k from the start": fixed(by_leaf),
        "top-k, straight through": fixed(sparsity.straight_through(by_leaf)),
        "top-k, closing": closing_entry(plain, density, lambda share: _top_k(share, "leaf")),
        WHOLE_INPUTS: closing_entry(plain, density, lambda share: _top_k(share, "input")),
        "soft threshold, held": _alone(held, lambda steps: objective(held, eta=target)),
        "hard concrete inputs, held": _alone(
            concrete, lambda steps: objective(concrete, eta=weighed, theta_penalty=open_gates)
        ),
    }


def _alone(learner: MetaLearner, loss_fn: Callable[[int], LossFn]) -> Entry:
    return Entry(lambda share: learner, loss_fn, any_share=False)


def _top_k(share: float | Array, per: sparsity.Per) -> Prox:
    return sparsity.top_k(share, per=per)


def closing_entry(
    learner: MetaLearner, density: float, prox: Callable[[float | Array], Prox]
) -> Entry:
    """A gate that closes by degrees while the learner trains, and stays at its density."""

    def build(share: float | Array) -> MetaLearner:
        return transforms.sparsify(learner, prox(share))

    def loss_fn(steps: int) -> LossFn:
        def loss(theta: PyTree, task, key: Array | None, step: Array | int = 0):
            return objective(build(closing(density, step, steps)))(theta, task, key, step)

        return loss

    return Entry(lambda share: build(density), loss_fn, any_share=False)


def moved(w: PyTree, theta: PyTree) -> float:
    """The share of a gradient learner's weights that adaptation has changed."""
    start = theta.learner["network"]
    changed = jax.tree.map(lambda a, b: a != b, w.body, start)
    count = sum(leaf.sum() for leaf in jax.tree.leaves(changed)) + sparsity.nonzeros(w.head)
    return float(count / sparsity.size((w.body, w.head)))
