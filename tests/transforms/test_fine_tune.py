"""The inner loop around a learner: what it computes, and what it can be told."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import evaluate, inner, learners, losses, meta_objective, networks, tasks, transforms
from jaxmeta.inner import learned_rates
from jaxmeta.learners._learned_init import NetworkParameters
from jaxmeta.transforms import fine_tune
from tests.descent import (
    KEY,
    START,
    TUNED,
    assert_close,
    descend_by_hand,
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


def test_steps_are_those_of_the_optimiser(theta, task):
    got = TUNED(optax.sgd(0.05), 4).adapt(theta, task.support)
    want = descend_by_hand(theta, task, 4, 0.05)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), got, want)
    assert not np.allclose(got.head["kernel"], theta["head"]["kernel"])


def test_only_what_where_selects_moves(theta, task):
    learner = TUNED(optax.sgd(0.05), 3, where=lambda w: NetworkParameters(False, True, False))
    w = learner.adapt(theta, task.support)
    jax.tree.map(np.testing.assert_array_equal, w.body, theta["network"])
    assert not np.allclose(w.head["kernel"], theta["head"]["kernel"])
    with pytest.raises(ValueError, match="nothing to move"):
        TUNED(optax.sgd(0.05), 3, where=lambda w: False).adapt(theta, task.support)


@pytest.mark.slow
def test_each_task_may_take_its_own_number_of_steps(theta, task):
    tuned = functools.partial(TUNED, optax.adam(0.01))
    supports = [task.support._replace(mask=jnp.arange(6.0) < n) for n in (2, 5)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *supports)
    counted = tuned(5, count=lambda support: support.mask.sum())
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


@pytest.mark.slow
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
        assert isinstance(learned, transforms.FineTunedTheta)
        learned = learned._replace(learner=theta)
        w = learner.adapt(learned, task.support)
        want = descend_by_hand(theta, task, 3, 0.05)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7), w, want)
        grad = jax.grad(
            lambda theta: meta_objective(learner, losses.mean_squared_error)(theta, task, None)[0]  # noqa: B023
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


def noisy_support(theta, w, support, *, key=None):
    """Predictions of the network with noise on the inputs, where there is a key."""
    noise = 0.0 if key is None else 0.1 * jax.random.normal(key, support.x.shape, support.x.dtype)
    return START.predict(theta, w, support.x + noise), w


def test_each_step_draws_noise_of_its_own(theta, task):
    """The gradient of the loop written out, with the noise of step k from the key of step k."""
    key = jax.random.key(3)

    def by_hand(theta):
        w, step_key = START.adapt(theta, task.support), jax.random.split(key)[1]
        for k in range(7):
            here = jax.random.fold_in(step_key, k)

            def loss(params, w=w, here=here):
                w = w._replace(body=params[0], head=params[1])
                z, _ = noisy_support(theta, w, task.support, key=here)
                return losses.mean_squared_error(z, task.support.y, task.support.mask)

            params = (w.body, w.head)
            params = jax.tree.map(lambda p, g: p - 0.01 * g, params, jax.grad(loss)(params))
            w = w._replace(body=params[0], head=params[1])
        z = START.predict(theta, w, task.query.x)
        return losses.mean_squared_error(z, task.query.y, task.query.mask)

    want = jax.flatten_util.ravel_pytree(jax.jit(jax.grad(by_hand))(theta))[0]
    assert np.isfinite(want).all()
    for mode in ("full", "remat", "nested", "mixed", "nested_mixed", inner.Truncated(7)):
        learner = TUNED(optax.sgd(0.01), 7, predict_support=noisy_support, differentiate=mode)
        assert_close(meta_gradient(learner, theta, task, key), want)
        quiet = meta_gradient(TUNED(optax.sgd(0.01), 7, differentiate=mode), theta, task)
        assert_close(meta_gradient(learner, theta, task), quiet)
        assert np.abs(want - quiet).max() > 1e-3 * np.abs(want).max()


def test_noise_under_vmap_is_that_of_the_loop(theta, task):
    learner = TUNED(optax.sgd(0.01), 3, predict_support=noisy_support)
    keys = jax.random.split(jax.random.key(4), 3)
    adapt = lambda key: learner.adapt(theta, task.support, key=key)  # noqa: E731
    batch = jax.vmap(adapt)(keys)
    for i, key in enumerate(keys):
        want = adapt(key)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[i], b), batch, want)  # noqa: B023
    assert not np.allclose(batch.head["kernel"][0], batch.head["kernel"][1])


def test_the_implicit_descent_has_no_noise(theta, task):
    implicit = TUNED(
        optax.sgd(0.01), 3, predict_support=noisy_support, differentiate="implicit", proximity=1.0
    )
    w, quiet = (implicit.adapt(theta, task.support, key=key) for key in (KEY, None))
    jax.tree.map(np.testing.assert_array_equal, w, quiet)


def test_another_number_of_steps_at_test_time_needs_no_training(task):
    theta = START.init(KEY, task)
    errors = [
        evaluate(
            TUNED(optax.sgd(0.001), steps),
            theta,
            sinusoid,
            key=KEY,
            num_tasks=20,
            metric=losses.mean_squared_error,
        ).mean
        for steps in (1, 30)
    ]
    assert errors[1] < errors[0]
