"""Probabilities: what they are worth, what a temperature makes of them, intervals of targets."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import Examples, MetaLearner, Task, evaluate, learners, networks, sparsity, transforms
from jaxmeta.evaluation import (
    brier_score,
    calibration_error,
    conformal,
    fit_temperature,
    log_loss,
    prediction_interval,
    reliability,
)
from jaxmeta.tasks import sinusoids
from tests.zoo import CLASSIFIERS

WAYS = 3
LEARNER = learners.prototypes(networks.identity(), ways=WAYS)


def clusters(shots, spread=1.0):
    """Tasks of three clusters, `shots` rows of support each."""

    def sampler(key):
        keys = jax.random.split(key, 3)
        centre = spread * jax.random.normal(keys[0], (WAYS, 2))
        y = jnp.arange(WAYS * (shots + 5)) % WAYS
        x = centre[y] + jax.random.normal(keys[1], (len(y), 2))
        cut = WAYS * shots
        support, query = ((x[part], y[part]) for part in (slice(cut), slice(cut, None)))
        return Task(*(Examples(*rows, jnp.ones(len(rows[1]))) for rows in (support, query)))

    return sampler


def two_shots(key):
    """Tasks of one or of four shots, the rows of which are padded to the most."""
    task = clusters(4)(key)
    few = jax.random.bernoulli(key)
    mask = jnp.where(few & (jnp.arange(4 * WAYS) >= WAYS), 0.0, 1.0)
    return task._replace(support=task.support._replace(mask=mask))


def theta_of(sampler, learner=LEARNER):
    return learner.init(jax.random.key(0), sampler(jax.random.key(1)))


def loss_of(learner, theta, sampler, key):
    result = evaluate(learner, theta, sampler, key=key, num_tasks=100, keep_predictions=True)
    return log_loss(*result.predictions.probabilities())


def test_predictions_that_are_kept_are_those_of_the_learner():
    sampler, keys = clusters(2), jax.random.split(jax.random.key(3), 7)
    theta = theta_of(sampler)
    kept = evaluate(LEARNER, theta, jax.vmap(sampler)(keys), keep_predictions=True)
    plain = evaluate(LEARNER, theta, jax.vmap(sampler)(keys))
    assert plain.predictions is None and kept.mean == plain.mean
    for n, key in enumerate(keys):
        task = sampler(key)
        z = LEARNER.predict(theta, LEARNER.adapt(theta, task.support), task.query.x)
        np.testing.assert_allclose(kept.predictions.z[n], z, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(kept.predictions.y[n], task.query.y)
    p, y = kept.predictions.probabilities()
    assert p.shape == (7 * 15, WAYS) and y.shape == (7 * 15,)
    np.testing.assert_allclose((p.argmax(axis=1) == y).mean(), kept.mean, atol=1e-6)


def test_the_worst_tasks_and_the_bets_are_of_the_tasks():
    result = evaluate(LEARNER, theta_of(clusters(2)), clusters(2), key=jax.random.key(0))
    values = result.per_task
    assert result.quantile(0.05) == np.quantile(values, 0.05)
    assert values.min() <= result.tolerance_limit() <= result.quantile(0.05)
    low, high = result.betting_interval()
    assert low < result.mean < high


def test_the_log_loss_and_the_bins_of_a_diagram():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 100)
    y = np.array([rng.choice(3, p=row) for row in p])
    want = -np.mean([math.log(row[c]) for row, c in zip(p, y, strict=True)])
    assert log_loss(p, y) == pytest.approx(want)
    assert log_loss([[1.0, 0.0]], [1]) == math.inf
    bins = reliability(p, y, num_bins=7)
    assert bins.rows.sum() == 100 and (np.diff(bins.confidence) > 0).all()
    gaps = np.abs(bins.accuracy - bins.confidence) * bins.rows / 100
    assert calibration_error(p, y, num_bins=7) == pytest.approx(gaps.sum())
    for function in (log_loss, reliability, brier_score, calibration_error):
        with pytest.raises(ValueError, match="classes"):
            function(p, y[:-1])
        for wrong in (-1, 3, 0.5):
            with pytest.raises(ValueError, match=r"classes in 0\.\.2"):
                function(p, np.concatenate([y[:-1], [wrong]]))


def test_a_temperature_is_the_best_of_all_and_changes_no_answer():
    sampler, key = clusters(2), jax.random.key(5)
    # Ten times as sure as is right.
    theta = theta_of(sampler) | {"log_scale": jnp.log(5.0)}
    fitted = fit_temperature(LEARNER, theta, sampler, key=key, num_tasks=100)
    tempered = transforms.temperature(LEARNER)
    assert float(fitted.log_temperature[0]) > 1.0
    best = loss_of(tempered, fitted, sampler, key)
    for log_t in np.linspace(-3, 5, 33, dtype=np.float32):
        other = fitted._replace(log_temperature=jnp.full(1, log_t))
        assert loss_of(tempered, other, sampler, key) >= best - 1e-6
    other = jax.random.key(6)
    ours, plain = (
        evaluate(*each, sampler, key=other, num_tasks=50, keep_predictions=True)
        for each in ((tempered, fitted), (LEARNER, theta))
    )
    np.testing.assert_array_equal(ours.per_task, plain.per_task)
    assert ours.density == plain.density and ours.nonzeros == plain.nonzeros
    assert log_loss(*ours.predictions.probabilities()) < log_loss(
        *plain.predictions.probabilities()
    )


def test_each_number_of_shots_has_a_temperature_of_its_own():
    key = jax.random.key(2)
    theta = theta_of(two_shots) | {"log_scale": jnp.log(3.0)}
    fitted = fit_temperature(LEARNER, theta, two_shots, key=key, num_tasks=200, by_shots=True)
    np.testing.assert_allclose(jnp.exp(fitted.log_shots), [1.0, 4.0], rtol=1e-6)
    few, many = np.exp(fitted.log_temperature)
    assert few > 1.2 * many, "one row says less than four"
    tempered = transforms.temperature(LEARNER)
    for shots, want in ((1, few), (2, math.sqrt(few * many)), (4, many), (6, many)):
        w = tempered.adapt(fitted, clusters(shots)(key).support)
        np.testing.assert_allclose(w.temperature["value"], want, rtol=1e-5)


@pytest.mark.parametrize("name", ["matching", "hypernet support", "maml", "in context"])
def test_any_classifier_can_be_tempered(name):
    learner, sampler = CLASSIFIERS[name], clusters(2)
    theta = theta_of(sampler, learner)
    fitted = fit_temperature(learner, theta, sampler, key=jax.random.key(0), num_tasks=20)
    task = sampler(jax.random.key(9))
    tempered = transforms.temperature(learner)
    z = learner.predict(theta, learner.adapt(theta, task.support), task.query.x)
    w = tempered.adapt(fitted, task.support)
    got = tempered.predict(fitted, w, task.query.x)
    np.testing.assert_allclose(got * w.temperature["value"], z, rtol=1e-4, atol=1e-5)
    assert sparsity.size(w) == sparsity.size(w.w)
    start = tempered.init(jax.random.key(0), task)
    np.testing.assert_array_equal(start.log_temperature, 0.0)


def test_a_class_that_is_absent_stays_so_at_any_temperature():
    task = clusters(2)(jax.random.key(0))
    support = task.support._replace(mask=(task.support.y != 1).astype(jnp.float32))
    tempered = transforms.temperature(LEARNER)
    for log_t in (-3.0, 3.0):
        theta = transforms.TemperedTheta(
            theta_of(clusters(2)), jnp.zeros(1), jnp.full(1, jnp.float32(log_t))
        )
        z = tempered.predict(theta, tempered.adapt(theta, support), task.query.x)
        assert (z[:, 1] == jnp.finfo(z.dtype).min).all() and jnp.isfinite(z).all()


def test_a_temperature_is_of_classes():
    learner = learners.ridge(networks.identity())
    sampler = sinusoids()
    with pytest.raises(ValueError, match="logits and classes"):
        fit_temperature(
            learner, theta_of(sampler, learner), sampler, key=jax.random.key(0), num_tasks=3
        )


def noisy_lines(key):
    """A line for each task, with a noise that x tells: standard deviation exp(x)."""
    keys = jax.random.split(key, 3)
    x = jax.random.uniform(keys[0], (12, 1), minval=-1.0)
    y = x * jax.random.normal(keys[1]) + jnp.exp(x) * jax.random.normal(keys[2], (12, 1))
    rows = [Examples(x[part], y[part], jnp.ones(6)) for part in (slice(6), slice(6, None))]
    return Task(*rows)


@pytest.mark.parametrize("with_std", [False, True])
def test_intervals_of_targets_hold_on_new_tasks(with_std):
    """A learner that knows nothing but, at the most, the noise."""

    def predict(theta, w, x):
        return jnp.concatenate([0.0 * x, x], axis=1) if with_std else 0.0 * x

    learner = MetaLearner(lambda key, task: {}, lambda theta, support, **_: jnp.zeros(()), predict)
    key, level = jax.random.key(1), 0.8
    threshold = conformal(learner, {}, noisy_lines, level, key=key, num_tasks=500)
    tasks = jax.vmap(noisy_lines)(jax.random.split(jax.random.key(2), 2000))
    z = np.asarray(predict({}, None, tasks.query.x[:, 0]))
    low, high = prediction_interval(z, threshold, 1)
    y = np.asarray(tasks.query.y[:, 0])
    held = ((low <= y) & (y <= high)).mean()
    assert abs(held - level) < 3 * math.sqrt(level * (1 - level) * (1 / 500 + 1 / 2000))
    assert (np.ptp(high - low) > 0.1) == with_std
    with pytest.raises(ValueError, match="of D=1"):
        prediction_interval(np.zeros((3, 3)), threshold, 1)
