"""Every way to differentiate the inner loop gives its gradient, or the one it is meant to give."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import inner, losses, meta_objective, tasks
from jaxmeta._precision import standard_promotion
from tests.descent import (
    KEY,
    START,
    TUNED,
    assert_close,
    gradient_by_hand,
    inner_gradient,
    meta_gradient,
)

sinusoid = tasks.sinusoids(shots=6, queries=5)


@pytest.fixture
def task(x64):
    return x64(sinusoid(jax.random.key(1)))


@pytest.fixture
def theta(task, x64):
    return x64(START.init(KEY, task))


MODES = ["full", "remat", "nested", "mixed", "nested_mixed", inner.Truncated(7), "implicit"]


@pytest.mark.parametrize("mode", MODES[:-1], ids=str)
def test_exact_modes_give_the_gradient_of_the_loop_written_out(mode, theta, task):
    """Seven steps: two segments of the nested modes and a rest."""
    got = meta_gradient(TUNED(optax.sgd(0.05), 7, differentiate=mode), theta, task)
    assert_close(got, gradient_by_hand(theta, task, 7, 0.05))


@pytest.mark.parametrize(
    ("mode", "constant"),
    [
        ("first_order", lambda k: True),
        (inner.Truncated(0), lambda k: True),
        ("truncated", lambda k: k < 3),
        (inner.Truncated(3), lambda k: k < 1),
    ],
    ids=["first order", "truncated to 0", "truncated", "truncated to 3"],
)
def test_first_order_and_truncated_hold_gradients_constant(mode, constant, theta, task):
    got = meta_gradient(TUNED(optax.sgd(0.05), 4, differentiate=mode), theta, task)
    assert_close(got, gradient_by_hand(theta, task, 4, 0.05, constant=constant))
    full = gradient_by_hand(theta, task, 4, 0.05)
    assert np.abs(got - full).max() > 1e-3 * np.abs(full).max()


def test_first_order_is_the_gradient_at_the_last_point(theta, task):
    w = TUNED(optax.sgd(0.05), 4).adapt(theta, task.support)
    got = meta_gradient(TUNED(optax.sgd(0.05), 4, differentiate="first_order"), theta, task)
    want = inner_gradient(w, task._replace(support=task.query))
    want = jax.flatten_util.ravel_pytree({"network": want[0], "head": want[1]})[0]
    assert_close(got, want)


@pytest.mark.parametrize(
    "mode",
    [inner.Implicit(num_steps=100), inner.Implicit("neumann", num_steps=4000, rate=0.003)],
    ids=["cg", "neumann"],
)
def test_implicit_at_convergence_is_the_long_unrolling(mode, theta, task):
    tuned = functools.partial(TUNED, optax.sgd(0.003), 4000, proximity=3.0)
    want = meta_gradient(tuned(differentiate="full"), theta, task)
    assert_close(meta_gradient(tuned(differentiate=mode), theta, task), want, rtol=1e-5)


def test_implicit_has_forward_mode_too(theta, task):
    learner = TUNED(optax.sgd(0.003), 4000, proximity=3.0, differentiate=inner.Implicit("cg", 100))
    loss_fn = meta_objective(learner, losses.mean_squared_error)
    value = lambda theta: loss_fn(theta, task, None)[0]  # noqa: E731
    direction = jax.tree.map(jnp.ones_like, theta)
    _, slope = jax.jvp(value, (theta,), (direction,))
    np.testing.assert_allclose(slope, meta_gradient(learner, theta, task).sum(), rtol=1e-6)


def test_evolution_points_along_the_gradient(theta, task):
    want = meta_gradient(TUNED(optax.sgd(0.05), 3), theta, task)
    evolution = inner.Evolution(num_pairs=400, stddev=1e-4)
    learner = TUNED(optax.sgd(0.05), 3, differentiate=evolution)
    got = meta_gradient(learner, theta, task, jax.random.key(5))
    cosine = got @ want / np.linalg.norm(got) / np.linalg.norm(want)
    assert cosine > 0.9 * math.sqrt(400 / (400 + want.size))
    w, exact = (each.adapt(theta, task.support) for each in (learner, TUNED(optax.sgd(0.05), 3)))
    jax.tree.map(np.testing.assert_array_equal, w, exact)  # without a key: nothing is drawn
    with pytest.raises(ValueError, match="hand adapt a key"):
        meta_gradient(learner, theta, task)


def test_adam_is_differentiable_where_a_gradient_is_zero(theta, task):
    dead = theta | {"head": theta["head"] | {"kernel": theta["head"]["kernel"].at[0].set(0.0)}}

    @standard_promotion  # optax's Adam mixes integers and numbers
    def adam_by_hand(theta):
        w = START.adapt(theta, task.support)
        params, tx = (w.body, w.head), optax.adam(0.01)
        state = tx.init(params)
        for _ in range(3):
            grads = inner_gradient(w._replace(body=params[0], head=params[1]), task)
            updates, state = tx.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        return params

    def value(theta):
        body, head = adam_by_hand(theta)
        z = START.predict(None, START.adapt(theta, task.support)._replace(body=body, head=head), x)
        return losses.mean_squared_error(z, task.query.y, task.query.mask)

    x = task.query.x
    want = jax.flatten_util.ravel_pytree(jax.jit(jax.grad(value))(theta))[0]
    tuned = jax.jit(adam_by_hand)(dead)
    for mode in ("full", "mixed", "nested"):
        learner = TUNED(optax.adam(0.01), 3, differentiate=mode)
        got = meta_gradient(learner, dead, task)
        assert np.all(np.isfinite(got)) and got.any()
        w = learner.adapt(dead, task.support)
        jax.tree.map(np.testing.assert_allclose, (w.body, w.head), tuned)
        assert_close(meta_gradient(learner, theta, task), want, rtol=1e-6)
