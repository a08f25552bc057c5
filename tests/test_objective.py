"""The meta-objective on a learner small enough for a pocket calculator."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import learners, losses, meta_objective, networks, sparsity
from jaxmeta.types import Examples, MetaLearner, Task

# w = theta * (mean of x, 0) and z = x * w[0]: for the task below w = (6, 0) and z = (6, 12).
TASK = Task(
    support=Examples(jnp.array([[1.0], [3.0]]), jnp.zeros((2, 1)), jnp.ones(2)),
    query=Examples(jnp.array([[1.0], [2.0], [9.0]]), jnp.full((3, 1), 4.0), jnp.array([1.0, 1, 0])),
    description=jnp.array(10.0),
)
THETA = jnp.array(3.0)
ERROR = ((6 - 4) ** 2 + (12 - 4) ** 2) / 2  # 34: the third row is padding
PENALTY = 6.0


def adapt(theta, support, *, description=None, key=None):
    noise = 0.0 if key is None else jax.random.normal(key)
    return jnp.stack([theta * support.x.mean() + noise, 0.0])


LEARNER = MetaLearner(lambda key, task: THETA, adapt, lambda theta, w, x: x * w[0])


def objective(**kwargs):
    return meta_objective(LEARNER, losses.mean_squared_error, sparsity.l1, **kwargs)


@pytest.mark.parametrize(("alpha", "eta"), [(1.0, 0.0), (0.5, 0.1), (0.0, 2.0), (3, 1)])
def test_loss_is_alpha_times_task_loss_plus_eta_times_penalty(alpha, eta):
    loss, metrics = objective(alpha=alpha, eta=eta)(THETA, TASK, None)
    np.testing.assert_allclose(loss, alpha * ERROR + eta * PENALTY, rtol=1e-6)
    want = {"loss": loss, "task_loss": ERROR, "penalty": PENALTY, "density": 0.5}
    assert metrics.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-6)


def test_without_penalty_the_loss_is_the_task_loss():
    loss, metrics = meta_objective(LEARNER, losses.mean_squared_error)(THETA, TASK, None)
    np.testing.assert_allclose(loss, ERROR, rtol=1e-6)
    assert metrics["penalty"] == 0.0


def test_alpha_and_eta_may_be_schedules_of_the_outer_step():
    loss_fn = objective(
        alpha=optax.linear_schedule(1.0, 0.0, 10), eta=lambda step: jnp.where(step < 5, 0.0, 2.0)
    )
    for step, alpha, eta in [(0, 1.0, 0.0), (5, 0.5, 2.0), (10, 0.0, 2.0)]:
        for given in (step, jnp.asarray(step)):
            loss, _ = loss_fn(THETA, TASK, None, step=given)
            np.testing.assert_allclose(loss, alpha * ERROR + eta * PENALTY, rtol=1e-6)


def test_gradient_in_theta_flows_through_task_loss_and_penalty():
    # d error / d theta = mean of 2 (z - y) x * 2, d penalty / d theta = 2.
    want = 0.5 * (2 * 2 * 1 * 2 + 2 * 8 * 2 * 2) / 2 + 0.1 * 2
    grad, _ = jax.grad(objective(alpha=0.5, eta=0.1), has_aux=True)(THETA, TASK, None)
    np.testing.assert_allclose(grad, want, rtol=1e-6)


def test_further_metrics_are_reported_on_the_real_query_rows():
    def largest(z, y, mask):
        return jnp.where(mask > 0, z[:, 0], -jnp.inf).max()

    loss, metrics = objective(metrics={"largest": largest})(THETA, TASK, None)
    assert metrics["largest"] == 12.0
    np.testing.assert_allclose(loss, ERROR, rtol=1e-6)


def test_the_density_is_reported_unless_it_is_not_wanted():
    _, metrics = objective()(THETA, TASK, None)
    _, without = objective(report_density=False)(THETA, TASK, None)
    assert metrics.keys() - without.keys() == {"density"}


@pytest.mark.parametrize("name", ["loss", "density"])
def test_a_metric_may_not_take_the_name_of_a_built_in_one(name):
    # Dropping the caller's metric in silence would report another number under its name.
    with pytest.raises(ValueError, match=name):
        objective(metrics={name: losses.mean_squared_error})


def test_the_key_reaches_adapt():
    plain, _ = objective()(THETA, TASK, None)
    (one, _), (same, _), (other, _) = (
        objective()(THETA, TASK, jax.random.key(seed)) for seed in (1, 1, 2)
    )
    assert one == same
    assert len({float(plain), float(one), float(other)}) == 3


def test_the_description_reaches_adapt():
    def described(theta, support, *, description=None, key=None):
        return jnp.stack([description, 0.0])

    learner = LEARNER._replace(adapt=described)
    loss, _ = meta_objective(learner, losses.mean_squared_error)(THETA, TASK, None)
    np.testing.assert_allclose(loss, ((10 - 4) ** 2 + (20 - 4) ** 2) / 2, rtol=1e-6)


@pytest.mark.parametrize("name", ["alpha", "eta"])
@pytest.mark.parametrize("value", [-0.1, float("nan")])
def test_a_negative_weight_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        objective(**{name: value})


def test_the_old_word_for_a_penalty_of_theta_works_and_warns():
    learner = learners.prototypes(networks.mlp([3]), ways=2)
    with pytest.warns(DeprecationWarning, match="is now theta_penalty="):
        old = meta_objective(
            learner, losses.cross_entropy, eta=1.0, gate_penalty=lambda theta: jnp.array(2.0)
        )
    x, y = jnp.eye(2), jnp.arange(2)
    task = Task(*[Examples(x, y, jnp.ones(2))] * 2)
    theta = learner.init(jax.random.key(0), task)
    assert old(theta, task, None)[1]["penalty"] == 2.0
