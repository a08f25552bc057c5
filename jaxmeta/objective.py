"""The meta-objective: right on new tasks, and sparse in what the meta-net emits."""

from collections.abc import Mapping
from types import MappingProxyType

import jax.numpy as jnp

from jaxmeta import losses, sparsity
from jaxmeta._deprecations import warn
from jaxmeta._examples import blank_padding
from jaxmeta.sparsity import TargetDensity, _target
from jaxmeta.sparsity._target import Weight
from jaxmeta.types import Array, LossFn, MetaLearner, Penalty, PyTree, Task, TaskLoss

__all__ = ["meta_objective"]

_REPORTED = frozenset({"loss", "task_loss", "penalty", "density", "eta", "left_out"})


def meta_objective(
    learner: MetaLearner,
    task_loss: TaskLoss,
    penalty: Penalty | None = None,
    alpha: Weight = 1.0,
    eta: Weight | TargetDensity = 0.0,
    *,
    theta_penalty: Penalty | None = None,
    metrics: Mapping[str, TaskLoss] = MappingProxyType({}),
    report_density: bool = True,
    gate_penalty: Penalty | None = None,
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
        multiplier, see `sparsity.TargetDensity`.
      theta_penalty: `theta_penalty(theta) -> scalar`, added to the penalty: `sparsity.expected_l0`
        of the gates that theta holds.
      metrics: further `(z, y, mask) -> scalar` functions of the query rows to report by name.
      report_density: whether to count the zeros of w. It is one more pass over w, which takes a
        fifth of the time of an outer step that does little else.
      gate_penalty: the name of version 0.1 for `theta_penalty`; it warns.

    Returns:
      `(theta, task, key, step=0) -> (loss, metrics)`, a pure function of one task. The metrics
      hold `loss`, `task_loss`, `penalty`, `density` of w if reported, `eta` where it holds a
      density, and what was asked for. In classification they hold `left_out` too: how many query
      rows count in neither loss nor metrics, because no support row has their class.

    Raises:
      ValueError: if alpha or eta is a negative number, a target density is out of range or theta
        has no multiplier to hold it by, or a metric takes the name of one that is reported anyway.

    Example:
      >>> import jax
      >>> from jaxmeta import learners, losses, meta_objective, networks, sparsity, tasks
      >>> learner = learners.prototypes(networks.mlp([8]), ways=2)
      >>> loss_fn = meta_objective(learner, losses.cross_entropy, sparsity.l1, eta=1e-3)
      >>> task = tasks.two_tasks(shots=10)(jax.random.key(0))
      >>> loss, metrics = loss_fn(learner.init(jax.random.key(1), task), task, None)
      >>> loss.shape
      ()
    """
    _target.check_weight("alpha", alpha)
    _target.check_eta(eta)
    if gate_penalty is not None:
        warn("meta_objective(gate_penalty=)", "theta_penalty=")
        theta_penalty = gate_penalty if theta_penalty is None else theta_penalty
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
        if theta_penalty is not None:
            complexity = complexity + theta_penalty(theta)
        report = {name: metric(z, query.y, mask) for name, metric in metrics.items()}
        if query.y.ndim == 1:
            report["left_out"] = (query.mask.astype(bool) & ~mask.astype(bool)).sum(
                dtype=jnp.float32
            )
        if report_density or _target.holds_density(eta):
            report["density"] = sparsity.density(w)
        weight = _target.weight(eta, theta, step)
        loss = _target.at(alpha, step) * error + weight * complexity
        if _target.holds_density(eta):
            report["eta"] = jnp.asarray(weight)
            loss = loss + _target.ascent(eta, theta, report["density"])
        return loss, report | {"loss": loss, "task_loss": error, "penalty": complexity}

    return loss_fn
