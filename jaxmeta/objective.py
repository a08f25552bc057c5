"""The meta-objective: right on new tasks, and sparse in what the meta-net emits."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp

from jaxmeta import losses, sparsity
from jaxmeta._precision import standard_promotion
from jaxmeta.masking import blank_padding
from jaxmeta.transforms import Multiplied, TargetDensity
from jaxmeta.transforms.multiplier import check_target, eta_of
from jaxmeta.types import Array, LossFn, MetaLearner, Penalty, PyTree, Task, TaskLoss

Weight = float | Callable[[Array], Array]
"""A number, or an optax schedule of the outer step."""

_REPORTED = frozenset({"loss", "task_loss", "penalty", "density", "eta", "left_out"})


def meta_objective(
    learner: MetaLearner,
    task_loss: TaskLoss,
    penalty: Penalty | None = None,
    alpha: Weight = 1.0,
    eta: Weight | TargetDensity = 0.0,
    *,
    gate_penalty: Penalty | None = None,
    metrics: Mapping[str, TaskLoss] = MappingProxyType({}),
    report_density: bool = True,
) -> LossFn:
    """The objective of one task, `alpha * L_task + eta * L_sparsity`.

        L(theta; task) = alpha * task_loss(predict(theta, w, x_query), y_query) + eta * penalty(w)
        w = adapt(theta, support, description)

    Evaluating `w` is the optimisation phase; descending on L in theta, which `make_step` does, is
    the meta-optimisation phase.

    Args:
      learner: the meta-learner.
      task_loss: `(z, y, mask) -> scalar`, a masked mean over the query rows.
      penalty: `penalty(w) -> scalar`; None for none.
      alpha: weight of the task loss, a non-negative number or an optax schedule of the outer step.
      eta: weight of the penalty, likewise; or the density to hold, for a learner that has a
        multiplier, see `transforms.TargetDensity`.
      gate_penalty: `gate_penalty(theta) -> scalar`, added to the penalty: `sparsity.expected_l0` of
        the gates that theta holds.
      metrics: further `(z, y, mask) -> scalar` functions of the query rows to report by name.
      report_density: whether to count the zeros of w. It is one more pass over w, which takes a
        fifth of the time of an outer step that does little else (BUILD_NOTES.md).

    Returns:
      `(theta, task, key, step=0) -> (loss, metrics)`, a pure function of one task. The metrics
      hold `loss`, `task_loss`, `penalty`, `density` of w if reported, `eta` where it holds a
      density, and what was asked for. In classification they hold `left_out` too: how many query
      rows count in neither loss nor metrics, because no support row has their class.

    Raises:
      ValueError: if alpha or eta is a negative number, a target density is out of range or theta
        has no multiplier to hold it by, or a metric takes the name of one that is reported anyway.
    """
    if isinstance(eta, TargetDensity):
        check_target(eta)
    for name, weight in (("alpha", alpha), ("eta", eta)):
        if not (callable(weight) or isinstance(weight, TargetDensity)) and not weight >= 0:
            raise ValueError(
                f"meta_objective got {name}={weight}, but a weight of the objective must be zero "
                "or more (or an optax schedule of the outer step)."
            )

    taken = _REPORTED & metrics.keys()
    if taken:
        raise ValueError(
            f"meta_objective reports {sorted(taken)} itself; name the metric otherwise."
        )

    def loss_fn(
        theta: PyTree, task: Task, key: Array | None, step: Array | int = 0
    ) -> tuple[Array, dict[str, Array]]:
        w = learner.adapt(theta, task.support, description=task.description, key=key)
        query = blank_padding(task.query)
        z = learner.predict(theta, w, query.x)
        mask = losses.answerable(z, query.y, query.mask)
        error = task_loss(z, query.y, mask)
        complexity = jnp.zeros(()) if penalty is None else penalty(w)
        if gate_penalty is not None:
            complexity = complexity + gate_penalty(theta)
        report = {name: metric(z, query.y, mask) for name, metric in metrics.items()}
        if query.y.ndim == 1:
            report["left_out"] = (query.mask.astype(bool) & ~mask.astype(bool)).sum(
                dtype=jnp.float32
            )
        if report_density or isinstance(eta, TargetDensity):
            report["density"] = sparsity.density(w)
        weight = _eta_at(eta, theta, step)
        loss = _at(alpha, step) * error + weight * complexity
        if isinstance(eta, TargetDensity):
            report["eta"] = jnp.asarray(weight)
            loss = loss + _ascent(eta, theta, report["density"])
        return loss, report | {"loss": loss, "task_loss": error, "penalty": complexity}

    return loss_fn


def _eta_at(eta: Weight | TargetDensity, theta: PyTree, step: Array | int) -> Array | float:
    if not isinstance(eta, TargetDensity):
        return _at(eta, step)
    if not isinstance(theta, Multiplied):
        raise ValueError(
            "eta=TargetDensity(...) needs a multiplier in theta: give the learner one, outermost, "
            "by transforms.sparsify(learner, prox, step=target) or transforms.with_multiplier."
        )
    return eta_of(eta, theta)


def _ascent(target: TargetDensity, theta: PyTree, density: Array) -> Array:
    """A term of value zero by whose gradient the multiplier climbs where the rest descends."""
    violation = jax.lax.stop_gradient(density / target.density - 1.0)
    return -violation * (theta.log_multiplier - jax.lax.stop_gradient(theta.log_multiplier))


def _at(weight: Weight, step: Array | int) -> Array | float:
    return standard_promotion(weight)(jnp.asarray(step)) if callable(weight) else weight
