"""Outer steps: by hand in NumPy, in a scan, and reproducible from the root key and the step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import (
    learners,
    losses,
    make_step,
    meta_objective,
    networks,
    sample_tasks,
    scan_steps,
    training,
)
from jaxmeta import tasks as families
from jaxmeta.types import Examples, MetaLearner, Task

SAMPLER = families.two_tasks(shots=20, queries=3, features=2)
LEARNER = learners.prototypes(networks.mlp([3]), ways=2)
ADAM = optax.adam(0.05)


def start(tx=ADAM, learner=LEARNER, seed=0):
    return training.init(learner, tx, jax.random.key(seed), SAMPLER(jax.random.key(0)))


def step_of(tx=ADAM, **kwargs):
    return make_step(meta_objective(LEARNER, losses.cross_entropy, **kwargs), tx)


def assert_trees_equal(got, want):
    jax.tree.map(np.testing.assert_array_equal, got, want)


# A learner that ignores its support set: linear regression by gradient descent in theta.
LINEAR = MetaLearner(
    init=lambda key, task: jnp.array([1.0, -1.0]),
    adapt=lambda theta, support, *, description=None, key=None: theta,
    predict=lambda theta, w, x: (x @ w)[:, None],
)


def test_one_step_of_gradient_descent_is_the_one_by_hand():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 5, 2)), rng.normal(size=(3, 5, 1))
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    rows = Examples(*(jnp.asarray(leaf, jnp.float32) for leaf in (x, y, mask)))
    tasks = Task(rows, rows)
    theta = np.array([1.0, -1.0])
    errors = x @ theta - y[..., 0]
    # The mean over the real rows of a task, then the mean over tasks: not over all rows at once.
    by_task = (2 * errors[..., None] * x * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    by_task_loss = (errors**2 * mask).sum(1) / mask.sum(1)

    tx = optax.sgd(0.1)
    state = training.init(LINEAR, tx, jax.random.key(0), jax.tree.map(lambda leaf: leaf[0], tasks))
    new, metrics = make_step(meta_objective(LINEAR, losses.mean_squared_error), tx)(state, tasks)
    np.testing.assert_allclose(new.theta, theta - 0.1 * by_task.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], by_task_loss.mean(), rtol=1e-5)
    assert new.step == 1
    assert_trees_equal(jax.random.key_data(new.key), jax.random.key_data(state.key))


@pytest.mark.parametrize("num_steps", [1, 4])
def test_scanned_steps_equal_single_jitted_steps(num_steps):
    step = step_of()
    scanned, metrics = jax.jit(
        scan_steps(step, SAMPLER, num_steps=num_steps, tasks_per_step=3)
    )(start())  # fmt: skip

    @jax.jit
    def single(state):
        return step(state, sample_tasks(SAMPLER, training.step_keys(state).sample, 3))

    state, seen = start(), []
    for _ in range(num_steps):
        state, metric = single(state)
        seen.append(metric["loss"])
    np.testing.assert_allclose(metrics["loss"], np.stack(seen), rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        scanned._replace(key=0),
        state._replace(key=0),
    )


def test_two_short_scans_equal_one_long_one_to_the_bit():
    step = step_of()
    short, long = (
        jax.jit(scan_steps(step, SAMPLER, num_steps=n, tasks_per_step=2)) for n in (2, 4)
    )
    twice, _ = short(short(start())[0])
    once, _ = long(start())
    assert_trees_equal(twice._replace(key=0), once._replace(key=0))


def test_keys_depend_on_the_root_key_and_the_step_alone():
    def data(state):
        return np.stack([jax.random.key_data(key) for key in training.step_keys(state)])

    state = start().__class__(theta=1, opt_state=2, key=jax.random.key(5), step=jnp.int32(7))
    np.testing.assert_array_equal(data(state), data(state._replace(theta=None, opt_state=None)))
    others = [
        state,
        state._replace(step=jnp.int32(8)),
        state._replace(key=jax.random.key(6)),
        state._replace(step=jnp.int32(0)),
    ]
    keys = np.concatenate([data(other) for other in others])
    assert len(np.unique(keys, axis=0)) == 2 * len(others)


def test_each_task_and_each_step_gets_noise_of_its_own():
    def noisy(theta, task, key):
        return theta.sum() * 0.0, {
            "noise": jax.random.normal(key),
            "square": jax.random.normal(key) ** 2,
        }

    step = make_step(noisy, ADAM)
    state = start(learner=LINEAR)
    tasks = sample_tasks(SAMPLER, jax.random.key(0), 2)
    one, first = step(state, tasks)
    _, second = step(one, tasks)
    assert first["square"] > first["noise"] ** 2 + 1e-6  # equal if both tasks drew the same
    assert first["noise"] != second["noise"]
    assert first["noise"] == step(state, tasks)[1]["noise"]


def test_a_seed_gives_one_run_and_another_seed_another():
    run = jax.jit(scan_steps(step_of(), SAMPLER, num_steps=2, tasks_per_step=2))
    (one, _), (same, _), (other, _) = run(start()), run(start()), run(start(seed=1))
    assert_trees_equal(one._replace(key=0), same._replace(key=0))
    assert np.any(one.theta["network"][0]["kernel"] != other.theta["network"][0]["kernel"])


def test_a_loss_is_given_the_outer_step_if_it_asks():
    def with_step(theta, task, key, step):
        return theta.sum(), {"step": step.astype(jnp.float32)}

    def without(theta, task, key):
        return theta.sum(), {"loss": theta.sum()}

    state = start(learner=LINEAR)._replace(step=jnp.int32(9))
    tasks = sample_tasks(SAMPLER, jax.random.key(0), 2)
    assert make_step(with_step, ADAM)(state, tasks)[1]["step"] == 9.0
    assert make_step(without, ADAM)(state, tasks)[1]["loss"] == 0.0


def test_schedules_of_the_objective_follow_the_outer_step():
    step = jax.jit(step_of(alpha=lambda step: jnp.where(step < 1, 1.0, 0.0)))
    tasks = sample_tasks(SAMPLER, jax.random.key(0), 2)
    one, first = step(start(), tasks)
    _, second = step(one, tasks)
    assert first["loss"] > 0.0
    assert second["loss"] == 0.0 and second["task_loss"] > 0.0


TRAINED = {
    "prototypes": (LEARNER, meta_objective(LEARNER, losses.cross_entropy)),
    "transfer": (
        learners.transfer(networks.mlp([3]), num_classes=2),
        learners.pretrain_objective(networks.mlp([3])),
    ),
}


@pytest.mark.parametrize("name", TRAINED)
def test_a_step_is_traced_once_however_often_it_is_called(name, count_traces):
    learner, loss_fn = TRAINED[name]
    step, traces = count_traces(make_step(loss_fn, ADAM))
    state = start(learner=learner)
    for seed in range(3):
        state, _ = step(state, sample_tasks(SAMPLER, jax.random.key(seed), 2))
    assert len(traces) == 1


def test_training_lowers_the_loss():
    run = jax.jit(scan_steps(step_of(), SAMPLER, num_steps=60, tasks_per_step=8))
    _, metrics = run(start())
    assert metrics["loss"][-10:].mean() < 0.9 * metrics["loss"][:10].mean()


def test_bad_counts_and_malformed_tasks_are_refused():
    for counts in ({"num_steps": 0, "tasks_per_step": 2}, {"num_steps": 2, "tasks_per_step": 0}):
        with pytest.raises(ValueError, match="of 1 or more, got 0"):
            scan_steps(step_of(), SAMPLER, **counts)
    batch = sample_tasks(SAMPLER, jax.random.key(0), 2)
    with pytest.raises(ValueError, match="jax.vmap"):
        training.init(LEARNER, ADAM, jax.random.key(0), batch)
