"""Features far from the origin, huge, tiny and of half precision: the same answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import Examples, Task, export, learners, losses, meta_objective, networks, sparsity
from jaxmeta.learners._similarity import closeness, squared_distances, unit_rows
from tests.zoo import LEARNERS, draw_sinusoid, jitted, task_loss

KEY = jax.random.key(0)
OFFSETS = [0.0, 1e2, 1e4, 1e6]
METRIC = {
    "nearest neighbour": lambda: learners.nearest_neighbour(ways=3),
    "prototypes": lambda: learners.prototypes(networks.identity(), ways=3),
}


def rows(x, y):
    return Examples(jnp.asarray(x, jnp.float32), jnp.asarray(y), jnp.ones(len(y)))


def spread_at(offset, seed=0):
    """Rows that differ by 8 or so around an offset, in numbers that float32 holds exactly."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-8, 9, (6, 3)) + offset
    return x.astype(np.float32), np.array([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("offset", OFFSETS)
def test_distances_are_those_of_double_precision_at_any_offset(offset):
    (a, _), (b, _) = spread_at(offset), spread_at(offset, seed=1)
    want = np.square(a[:, None].astype(float) - b[None]).sum(axis=-1)
    np.testing.assert_allclose(squared_distances(a, b), want, rtol=1e-6)
    # One row far away spoils nothing of what is near.
    b[0] = 3e7
    want = np.square(a[:, None].astype(float) - b[None]).sum(axis=-1)
    np.testing.assert_allclose(squared_distances(a, b), want, rtol=1e-6)


def test_the_derivative_of_distances_is_their_finite_difference(x64):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 3)) + 5.0, rng.normal(size=(5, 3))
    weights = rng.normal(size=(4, 5))

    # A mild curve over the distances: differences of second order stay accurate.
    def total(a, b):
        return (weights * jnp.sqrt(1.0 + squared_distances(a, b))).sum()

    jax.test_util.check_grads(total, (a, b), order=2, rtol=1e-5)


@pytest.mark.parametrize("name", METRIC)
@pytest.mark.parametrize("offset", OFFSETS)
def test_the_nearest_class_is_right_at_any_offset_in_files_too(name, offset):
    (x, y), (queries, _) = spread_at(offset), spread_at(offset, seed=2)
    learner = METRIC[name]()
    support = rows(x, y)
    theta = learner.init(KEY, Task(support, support))
    w = learner.adapt(theta, support)
    points = x.astype(float)
    if name == "prototypes":
        points = np.stack([points[y == c].mean(axis=0) for c in range(3)])
    far = np.square(queries[:, None].astype(float) - points[None]).sum(axis=-1)
    want = far.argmin(axis=1) % 3
    np.testing.assert_array_equal(learner.predict(theta, w, queries).argmax(axis=1), want)
    if name == "prototypes":
        source = export.numpy_source(export.prune_dead_units(export.perceptron(theta, w)))
        np.testing.assert_array_equal(export.load(source)(queries).argmax(axis=1), want)


@pytest.mark.parametrize("size", [1, 64])
@pytest.mark.parametrize("scale", [1e-15, 1e-3, 1e15, 1e19, 1e30])
@pytest.mark.parametrize("name", METRIC)
def test_the_nearest_class_is_right_at_any_scale(name, scale, size):
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(3, size)) + 4.0 * np.arange(3)[:, None]
    x = (scale * centres).astype(np.float32)
    queries = (scale * (centres + 0.1 * rng.normal(size=(3, size)))).astype(np.float32)
    learner = METRIC[name]()
    support = rows(x, np.arange(3))
    theta = learner.init(KEY, Task(support, support))
    w = learner.adapt(theta, support)
    z = jax.jit(learner.predict)(theta, w, queries)
    assert np.isfinite(z).all()
    np.testing.assert_array_equal(z.argmax(axis=1), np.arange(3))
    if name == "prototypes":
        source = export.numpy_source(export.perceptron(theta, w))
        np.testing.assert_array_equal(export.load(source)(queries).argmax(axis=1), np.arange(3))


@pytest.mark.parametrize("scale", [1e19, 1e30, 3e38])
def test_rows_of_any_length_have_length_one(scale):
    x = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (4, 8)) * scale, jnp.float32)
    np.testing.assert_allclose(jnp.linalg.norm(unit_rows(x), axis=1), 1.0, rtol=1e-6)
    gradient = jax.grad(lambda x: unit_rows(x)[:, 0].sum())(x)
    assert np.isfinite(gradient).all()


def test_closeness_has_a_finite_gradient_at_overflow():
    a, b = jnp.full((2, 64), 1e20), jnp.zeros((3, 64))
    real = jnp.array([True, True, False])
    gradient = jax.grad(lambda a: jax.nn.softmax(closeness(a, b, real))[:, 0].sum())(a)
    assert np.isfinite(gradient).all()


HALVES = [jnp.float16, jnp.bfloat16]


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_half_precision_inputs_give_what_float32_gives(name, make_task):
    """Of the same numbers: nothing is squared, summed or normalised in half precision."""
    task = make_task(0) if "regression" not in name else draw_sinusoid(0)
    theta = LEARNERS[name].init(KEY, task)
    for dtype, scale in ((jnp.float16, 300.0), (jnp.bfloat16, 1e-2)):
        halves = [
            rows._replace(x=(scale * rows.x).astype(dtype)) for rows in (task.support, task.query)
        ]
        whole = [rows._replace(x=rows.x.astype(jnp.float32)) for rows in halves]
        got, want = (jitted(name)(theta, Task(*rows, task.description)) for rows in (halves, whole))
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", LEARNERS)
def test_rows_of_zeros_and_padding_in_half_precision_are_no_nan(name, dtype, make_task, pad):
    task = make_task(0) if "regression" not in name else draw_sinusoid(0)
    task = pad(task, 6e4)
    zeros = task.support._replace(x=task.support.x.at[1].set(0.0).astype(dtype))
    task = task._replace(support=zeros, query=task.query._replace(x=task.query.x.astype(dtype)))
    learner = LEARNERS[name]
    loss_fn = meta_objective(learner, task_loss(name), sparsity.l1, eta=1e-3)
    theta = learner.init(KEY, task)
    (loss, _), gradient = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(theta, task, None)
    assert np.isfinite(loss) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("dtype", HALVES)
def test_losses_of_half_precision_are_those_of_float32(dtype):
    rng = np.random.default_rng(0)
    z, y = jnp.asarray(300 * rng.normal(size=(5000, 3)), dtype), jnp.zeros(5000, jnp.int32)
    mask = jnp.ones(5000, dtype)
    for loss in (losses.cross_entropy, losses.accuracy):
        want = loss(z.astype(jnp.float32), y, mask.astype(jnp.float32))
        np.testing.assert_allclose(loss(z, y, mask), want, rtol=1e-6)
    targets = jnp.zeros((5000, 3), dtype)
    want = np.square(np.asarray(z, np.float64)).mean()
    np.testing.assert_allclose(losses.mean_squared_error(z, targets, mask), want, rtol=1e-5)


@pytest.mark.parametrize("dtype", HALVES)
def test_penalties_of_half_precision_do_not_overflow(dtype):
    w = [jnp.full((300, 300), 3.0, dtype)]
    np.testing.assert_allclose(sparsity.l1(w), 270_000.0)
    np.testing.assert_allclose(sparsity.l2_squared(w), 810_000.0)
    assert np.isfinite(sparsity.hoyer(w))
