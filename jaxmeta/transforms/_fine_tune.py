"""`fine_tune`: gradient steps on `w` over the support set, around any learner."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import optax

from jaxmeta import inner
from jaxmeta._examples import blank_padding
from jaxmeta._tree import parameter_mask, split
from jaxmeta._validation import check_positive
from jaxmeta.inner._optimisers import LearnedOptimiser
from jaxmeta.networks._core import has_key
from jaxmeta.transforms._tied import check_tied
from jaxmeta.types import Array, Examples, MetaLearner, PyTree, Task, TaskLoss


class FineTunedTheta(NamedTuple):
    """theta of `fine_tune` with a learned optimiser; with a plain one it is the learner's own."""

    learner: PyTree
    optimiser: PyTree


def fine_tune(
    learner: MetaLearner,
    loss: TaskLoss,
    tx: optax.GradientTransformation | LearnedOptimiser,
    num_steps: int,
    *,
    differentiate: inner.Differentiate = "full",
    where: Callable[[PyTree], PyTree] | None = None,
    proximity: float = 0.0,
    count: Callable[[Examples], Array] | None = None,
    tolerance: float = 0.0,
    predict_support: Callable[..., tuple[Array, PyTree]] | None = None,
    trajectory: bool = False,
) -> MetaLearner:
    """Adapt, then descend on the loss of the support set in `w`.

        w_0 = adapt(theta, support)
        w_{k+1} = w_k + tx(grad_w [loss(predict(theta, w_k, x), y) + proximity / 2 |w_k - w_0|^2])

    The learner's `predict` must be differentiable in `w`; leaves of `w` that are not
    floating-point stay as they are. theta does not depend on `num_steps`, unless a learned
    optimiser has rates of each step: test with another number by wrapping with another number.

    Args:
      learner: any learner.
      loss: `(z, y, mask) -> scalar` on the support rows.
      tx: any optax optimiser, or a `LearnedOptimiser`. Derivatives stay finite where a root or a
        norm in it meets a gradient of zero; one that asks for the loss is given it.
      num_steps: steps K; the most of them, where `count` or `tolerance` stops earlier.
      differentiate: how meta-optimisation sees the steps, see `jaxmeta.inner`.
      where: `w -> tree of bools` (or a prefix of it), which entries move; all by default.
      proximity: weight of the proximal term that ties `w` to `w_0`.
      count: `support -> [] int`, the steps that this task takes, if fewer. May close over a traced
        number: one program for all numbers of steps.
      tolerance: a task stops once the norm of its gradient is this or less.
      predict_support: `(theta, w, support) -> (z, w)`, in place of `predict` on the support rows,
        where `w` is to leave with something of them, such as normalisation statistics. One that
        takes a keyword `key` has noise, such as dropout: where `adapt` is given a key, each step
        draws its own (the implicit gradient, that of one objective, has none); what `w` leaves
        with is drawn without.
      trajectory: give `w_1 ... w_K` stacked, `[K, ...]` on every leaf, for losses of every step.

    Raises:
      ValueError: if `num_steps`, `proximity`, `tolerance` or `differentiate` is out of range; if
        the gradient is implicit, and there is a trajectory or a learned optimiser, or, at `init`,
        a part of theta that would have no gradient.

    Returns:
      A learner whose `w` is the learner's own after the steps. Its theta is the learner's, or a
      `FineTunedTheta` if the optimiser learns.

    Example:
      >>> import optax
      >>> from jaxmeta import learners, losses, networks, transforms
      >>> start = learners.prototypes(networks.mlp([8]), ways=2)
      >>> learner = transforms.fine_tune(start, losses.cross_entropy, optax.sgd(0.1), num_steps=2)

    References:
      Finn, Abbeel and Levine, Model-agnostic meta-learning, arXiv:1703.03400.
    """
    check_positive(num_steps=num_steps)
    if not (proximity >= 0 and tolerance >= 0):
        raise ValueError(
            "fine_tune needs a proximity and a tolerance of zero or more, got "
            f"proximity={proximity}, tolerance={tolerance}."
        )
    mode = inner.resolve(differentiate)
    learned = isinstance(tx, LearnedOptimiser)
    implicit = isinstance(mode, inner.Implicit)
    if implicit:
        _check_implicit(learned, trajectory)
    evolved = isinstance(mode, inner.Evolution)
    tuning = _Tuning(
        learner=learner,
        loss=loss,
        tx=tx,
        num_steps=num_steps,
        differentiate="full" if evolved else differentiate,
        tolerance=tolerance,
        where=where,
        proximity=proximity,
        count=count,
        on_support=predict_support or (lambda theta, w, s: (learner.predict(theta, w, s.x), w)),
        noisy=predict_support is not None and has_key(predict_support),
        trajectory=trajectory,
    )

    def init(key: Array, task: Task) -> PyTree:
        theta = learner.init(key, task)

        def start(theta: PyTree) -> PyTree:
            w = learner.adapt(theta, task.support, description=task.description)
            return _moving_and_fixed(w, where)[0]

        def outcome(theta: PyTree) -> Array:
            w = adapt(theta, task.support, description=task.description)
            return predict(theta, w, task.support.x)

        if implicit and not proximity:
            check_tied(start, outcome, theta)
        return FineTunedTheta(theta, tx.init(start(theta))) if learned else theta

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> PyTree:
        if not evolved:
            return _tune(tuning, theta, (support, description, key))
        noise_key, key = (None, None) if key is None else jax.random.split(key)
        tune = inner.evolve(partial(_tune, tuning), mode)
        return tune(theta, (support, description, key), noise_key)

    def predict(theta: PyTree, w: PyTree, x: Array) -> Array:
        return learner.predict(theta.learner if learned else theta, w, x)

    return MetaLearner(init, adapt, predict)


def _check_implicit(learned: bool, trajectory: bool) -> None:
    """Raise ValueError for what the gradient of the last point alone does not see."""
    if learned or trajectory:
        raise ValueError(
            "differentiate='implicit' is the gradient of the last point, whatever way led there: "
            + ("the parameters of tx would not learn." if learned else "it has no trajectory.")
            + " Differentiate otherwise, or leave "
            + ("tx an optax optimiser." if learned else "trajectory=False.")
        )


class _Tuning(NamedTuple):
    """The descent on `w` of one `fine_tune`, whose arguments these are.

    `differentiate` is never "evolution", which wraps the whole of it; `on_support` gives z of the
    support rows and `w` as it leaves, and takes a keyword `key` if it is `noisy`.
    """

    learner: MetaLearner
    loss: TaskLoss
    tx: optax.GradientTransformation | LearnedOptimiser
    num_steps: int
    differentiate: inner.Differentiate
    tolerance: float
    where: Callable[[PyTree], PyTree] | None
    proximity: float
    count: Callable[[Examples], Array] | None
    on_support: Callable[..., tuple[Array, PyTree]]
    noisy: bool
    trajectory: bool


def _tune(tuning: _Tuning, theta: PyTree, given: tuple[Examples, PyTree, Array | None]) -> PyTree:
    """`w` of the learner after the steps, given `(support, description, key)`."""
    support, description, key = given
    tx = tuning.tx
    # Noise of the optimiser, of the steps and of the learner's `adapt`, where there is each.
    learned = isinstance(tx, LearnedOptimiser)
    key, noise_key = (key, None) if key is None or not learned else jax.random.split(key)
    key, step_key = (key, None) if key is None or not tuning.noisy else jax.random.split(key)
    if learned:
        theta, tx = theta.learner, tx.build(theta.optimiser, noise_key)
    w = tuning.learner.adapt(theta, support, description=description, key=key)
    start, fixed = _moving_and_fixed(w, tuning.where)
    support = blank_padding(support)
    tuned = inner.descend(
        partial(_objective, tuning),
        start,
        (theta, fixed, start, support),
        inner.Descent(tx, tuning.num_steps, tuning.differentiate, tuning.tolerance),
        count=None if tuning.count is None else tuning.count(support),
        trajectory=tuning.trajectory,
        key=step_key,
    )

    def finish(moving: PyTree) -> PyTree:
        return tuning.on_support(theta, inner.merge(moving, fixed), support)[1]

    return jax.vmap(finish)(tuned) if tuning.trajectory else finish(tuned)


def _objective(
    tuning: _Tuning,
    moving: PyTree,
    context: tuple[PyTree, PyTree, PyTree, Examples],
    *,
    key: Array | None = None,
) -> Array:
    """The loss of the support rows, and the distance from the start where that has a weight."""
    theta, fixed, start, support = context
    noise = {} if key is None else {"key": key}
    z, _ = tuning.on_support(theta, inner.merge(moving, fixed), support, **noise)
    error = tuning.loss(z, support.y, support.mask)
    if tuning.proximity:
        distance = optax.tree.norm(optax.tree.sub(moving, start), squared=True)
        error = error + 0.5 * tuning.proximity * distance
    return error


def _moving_and_fixed(w: PyTree, where: Callable[[PyTree], PyTree] | None) -> tuple[PyTree, PyTree]:
    """The entries that descent moves, and the rest; None in each other's places."""
    moves = parameter_mask(w)
    if where is not None:
        chosen = jax.tree.map(
            lambda choice, part: jax.tree.map(lambda _: bool(choice), part), where(w), w
        )
        moves = jax.tree.map(lambda a, b: a and b, moves, chosen)
    if not any(jax.tree.leaves(moves)):
        raise ValueError(
            "fine_tune was left with nothing to move: w has no floating-point entry that `where` "
            "selects."
        )
    return split(w, moves)
