"""The inner loop: what it computes, and that every way to differentiate it gives its gradient."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import evaluate, inner, learners, losses, meta_objective, networks, tasks, transforms
from jaxmeta.learners.learned_init import NetworkParameters, learned_init
from jaxmeta.transforms import fine_tune, learned_rates

sinusoid = tasks.sinusoids(shots=6, queries=5)
KEY = jax.random.key(0)
START = learned_init(networks.mlp([6], activation=jnp.tanh))
TUNED = functools.partial(fine_tune, START, losses.squared_error)


@pytest.fixture
def task(x64):
    return x64(sinusoid(jax.random.key(1)))


@pytest.fixture
def theta(task, x64):
    return x64(START.init(KEY, task))


def meta_gradient(learner, theta, task, key=None):
    """The gradient of the query loss after adaptation, as one vector."""
    loss_fn = meta_objective(learner, losses.squared_error)
    grad = jax.jit(jax.grad(lambda theta: loss_fn(theta, task, key)[0]))(theta)
    return jax.flatten_util.ravel_pytree(grad)[0]


def inner_gradient(w, task):
    """Gradient of the support loss in body and head, written out."""

    def loss(body, head):
        z = START.predict(None, w._replace(body=body, head=head), task.support.x)
        return losses.squared_error(z, task.support.y, task.support.mask)

    return jax.grad(loss, argnums=(0, 1))(w.body, w.head)


def descend_by_hand(theta, task, num_steps, rate, constant=lambda k: False):
    """Gradient descent as a Python loop; the gradients of the steps that `constant` names are."""
    w = START.adapt(theta, task.support)
    for k in range(num_steps):
        grad = inner_gradient(w, task)
        grad = jax.lax.stop_gradient(grad) if constant(k) else grad
        body, head = jax.tree.map(lambda p, g: p - rate * g, (w.body, w.head), grad)
        w = w._replace(body=body, head=head)
    return w


def gradient_by_hand(theta, task, *args, **options):
    def loss(theta):
        z = START.predict(theta, descend_by_hand(theta, task, *args, **options), task.query.x)
        return losses.squared_error(z, task.query.y, task.query.mask)

    return jax.flatten_util.ravel_pytree(jax.jit(jax.grad(loss))(theta))[0]


def assert_close(got, want, rtol=1e-10):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * np.abs(want).max())


def test_steps_are_those_of_the_optimiser(theta, task):
    got = TUNED(optax.sgd(0.05), 4).adapt(theta, task.support)
    want = descend_by_hand(theta, task, 4, 0.05)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), got, want)
    assert not np.allclose(got.head["kernel"], theta["head"]["kernel"])


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
    loss_fn = meta_objective(learner, losses.squared_error)
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


@pytest.mark.parametrize("mode", ["full", "mixed", "nested"])
def test_adam_is_differentiable_where_a_gradient_is_zero(mode, theta, task):
    dead = theta | {"head": theta["head"] | {"kernel": theta["head"]["kernel"].at[0].set(0.0)}}
    learner = TUNED(optax.adam(0.01), 3, differentiate=mode)
    got = meta_gradient(learner, dead, task)
    assert np.all(np.isfinite(got)) and got.any()

    def adam_by_hand(theta):
        w = START.adapt(theta, task.support)
        params, tx = (w.body, w.head), optax.adam(0.01)
        state = tx.init(params)
        for _ in range(3):
            grads = inner_gradient(w._replace(body=params[0], head=params[1]), task)
            updates, state = tx.update(grads, state, params)
            params = optax.apply_updates(params, updates)
        return params

    w = learner.adapt(dead, task.support)
    jax.tree.map(np.testing.assert_allclose, (w.body, w.head), adam_by_hand(dead))
    value = lambda theta: losses.squared_error(  # noqa: E731
        START.predict(None, w._replace(body=theta[0], head=theta[1]), task.query.x),
        task.query.y,
        task.query.mask,
    )
    want = jax.grad(lambda theta: value(adam_by_hand(theta)))(theta)
    want = jax.flatten_util.ravel_pytree(want)[0]
    assert_close(meta_gradient(learner, theta, task), want, rtol=1e-6)


def test_only_what_where_selects_moves(theta, task):
    learner = TUNED(optax.sgd(0.05), 3, where=lambda w: NetworkParameters(False, True, False))
    w = learner.adapt(theta, task.support)
    jax.tree.map(np.testing.assert_array_equal, w.body, theta["network"])
    assert not np.allclose(w.head["kernel"], theta["head"]["kernel"])
    with pytest.raises(ValueError, match="nothing to move"):
        TUNED(optax.sgd(0.05), 3, where=lambda w: False).adapt(theta, task.support)


def test_each_task_may_take_its_own_number_of_steps(theta, task):
    tuned = functools.partial(TUNED, optax.adam(0.01))
    supports = [task.support._replace(mask=jnp.arange(6.0) < n) for n in (2, 5)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *supports)
    counted = tuned(5, count=lambda support: (support.mask > 0).sum())
    got = jax.vmap(counted.adapt, (None, 0))(theta, batch)
    for row, (steps, support) in enumerate(zip((2, 5), supports, strict=True)):
        want = tuned(steps).adapt(theta, support)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[row], b), got, want)  # noqa: B023


def test_one_program_serves_any_number_of_steps(theta, task, count_traces):
    def adapt(num_steps):
        learner = TUNED(optax.sgd(0.05), 6, count=lambda support: num_steps)
        return learner.adapt(theta, task.support).head["kernel"]

    function, traces = count_traces(adapt)
    for steps in (0, 1, 6):
        want = descend_by_hand(theta, task, steps, 0.05).head["kernel"]
        np.testing.assert_allclose(function(steps), want)
    assert len(traces) == 1


def test_a_task_stops_when_its_gradient_is_small(theta, task):
    tuned = functools.partial(TUNED, optax.sgd(0.05), proximity=0.0)
    norm = optax.tree.norm(inner_gradient(descend_by_hand(theta, task, 3, 0.05), task))
    w = tuned(8, tolerance=float(norm) * 1.0001).adapt(theta, task.support)
    steps = [descend_by_hand(theta, task, k, 0.05) for k in range(9)]
    norms = [float(optax.tree.norm(inner_gradient(step, task))) for step in steps]
    first = next(k for k, value in enumerate(norms) if value <= norm * 1.0001)
    assert first < 8
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), w, steps[first])


def test_the_trajectory_ends_where_the_descent_does(theta, task):
    for mode in ("full", "nested"):
        path = TUNED(optax.sgd(0.05), 5, trajectory=True, differentiate=mode)
        got = path.adapt(theta, task.support)
        for k in range(5):
            want = descend_by_hand(theta, task, k + 1, 0.05)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a[k], b), got, want)  # noqa: B023


def test_it_wraps_any_learner_that_can_be_differentiated_in_w(make_task, x64):
    task = x64(make_task(0))
    network = networks.mlp([8])
    for learner in (
        learners.prototypes(network, ways=3),
        learners.matching(network, ways=3),
        learners.hypernet(network, out_size=3),
        learners.transfer(network, num_classes=4, ways=3),
    ):
        theta = x64(learner.init(KEY, task))
        tuned = fine_tune(learner, losses.cross_entropy, optax.sgd(1e-2), 5)
        before, after = (
            losses.cross_entropy(
                each.predict(theta, each.adapt(theta, task.support), task.support.x),
                task.support.y,
                task.support.mask,
            )
            for each in (learner, tuned)
        )
        assert after < before


def test_learned_rates_are_part_of_theta_and_learn(theta, task, x64):
    for per, num_steps in (("entry", None), ("leaf", None), ("leaf", 3), ("entry", 3)):
        learner = TUNED(learned_rates(0.05, per=per, num_steps=num_steps), 3)
        learned = x64(learner.init(KEY, task))
        assert isinstance(learned, transforms.Tuned)
        learned = learned._replace(learner=theta)
        w = learner.adapt(learned, task.support)
        want = descend_by_hand(theta, task, 3, 0.05)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7), w, want)
        grad = jax.grad(
            lambda theta: meta_objective(learner, losses.squared_error)(theta, task, None)[0]  # noqa: B023
        )(learned)
        assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grad.optimiser))


def test_rates_of_steps_past_the_learned_ones_are_the_last(theta, task, x64):
    tx = learned_rates(0.05, per="leaf", num_steps=2)
    learned = x64(TUNED(tx, 2).init(KEY, task))._replace(learner=theta)
    rates = jax.tree.map(lambda leaf: leaf.at[1].set(0.01), learned.optimiser)
    w = TUNED(tx, 4).adapt(learned._replace(optimiser=rates), task.support)
    want = descend_by_hand(theta, task, 1, 0.05)
    for _ in range(3):
        body, head = jax.tree.map(
            lambda p, g: p - 0.01 * g, (want.body, want.head), inner_gradient(want, task)
        )
        want = want._replace(body=body, head=head)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), w, want)


def test_nan_in_padded_rows_reaches_no_gradient(theta, task):
    def poison(rows):
        mask = rows.mask.at[-1].set(0.0)
        return rows._replace(x=rows.x.at[-1].set(jnp.nan), y=rows.y.at[-1].set(jnp.nan), mask=mask)

    poisoned = task._replace(support=poison(task.support), query=poison(task.query))
    cut = task._replace(
        support=jax.tree.map(lambda leaf: leaf[:-1], task.support),
        query=jax.tree.map(lambda leaf: leaf[:-1], task.query),
    )
    learner = TUNED(optax.sgd(0.05), 2)
    assert_close(meta_gradient(learner, theta, poisoned), meta_gradient(learner, theta, cut))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 0}, "num_steps must be 1 or more"),
        ({"proximity": -1.0}, "proximity"),
        ({"tolerance": math.nan}, "tolerance"),
        ({"differentiate": "sideways"}, "differentiate is one of full, .* got 'sideways'"),
        ({"differentiate": inner.Truncated(-1)}, "got last=-1"),
        ({"differentiate": inner.Implicit("lu")}, "solver='lu'"),
        ({"differentiate": inner.Evolution(0)}, "num_pairs must be 1 or more"),
        ({"differentiate": inner.Evolution(1, 0.0)}, "stddev above zero"),
    ],
)
def test_a_setting_out_of_range_is_a_sentence(options, message):
    settings = {"num_steps": 1} | options
    with pytest.raises(ValueError, match=message):
        TUNED(optax.sgd(0.1), **settings)
    with pytest.raises(ValueError, match="'entry' or 'leaf'"):
        learned_rates(0.1, per="row")


def test_the_implicit_gradient_has_no_trajectory(theta, task):
    learner = TUNED(optax.sgd(0.1), 2, differentiate="implicit", trajectory=True)
    with pytest.raises(ValueError, match="no trajectory"):
        learner.adapt(theta, task.support)


def test_another_number_of_steps_at_test_time_needs_no_training(task):
    theta = START.init(KEY, task)
    errors = [
        evaluate(
            TUNED(optax.sgd(0.001), steps),
            theta,
            sinusoid,
            key=KEY,
            num_tasks=20,
            metric=losses.squared_error,
        ).mean
        for steps in (1, 30)
    ]
    assert errors[1] < errors[0]
