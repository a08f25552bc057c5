"""Tasks drawn from a formula: the formula is recovered from what is drawn."""

import functools

import jax
import numpy as np
import pytest

from jaxmeta.tasks import sinusoids, two_tasks

KEYS = jax.random.split(jax.random.key(0), 200)


@functools.cache
def draw(build, **options):
    """200 tasks at once; each kind is compiled once for all tests."""
    return jax.device_get(jax.jit(jax.vmap(build(**options)))(KEYS))


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """The programs run for milliseconds, and to optimise them takes seconds each."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def waves():
    return draw(sinusoids, shots=3, queries=4)


def formula(x, description):
    amplitude, phase = np.moveaxis(description, -1, 0)[..., None, None]
    return amplitude * np.sin(x - phase)


def test_sinusoids_follow_the_formula_of_their_description(waves):
    for part, rows in ((waves.support, 3), (waves.query, 4)):
        assert part.x.shape == part.y.shape == (200, rows, 1)
        np.testing.assert_allclose(part.y, formula(part.x, waves.description), atol=1e-4)
        np.testing.assert_array_equal(part.mask, np.ones((200, rows)))
    assert len(np.unique(waves.support.x)) + len(np.unique(waves.query.x)) > 1300  # fresh rows


def test_sinusoids_fill_the_ranges_of_the_paper(waves):
    amplitude, phase = waves.description.T
    x = waves.query.x
    for values, least, most in ((amplitude, 0.1, 5.0), (phase, 0.0, np.pi), (x, -5.0, 5.0)):
        slack = 0.05 * (most - least)
        assert least <= values.min() < least + slack
        assert most - slack < values.max() <= most
        assert abs(values.mean() - (least + most) / 2) < 2 * slack
    assert abs(np.corrcoef(amplitude, phase)[0, 1]) < 0.25


def test_noise_is_added_to_the_support_targets_alone(waves):
    noisy = draw(sinusoids, shots=3, queries=4, noise=0.3)
    np.testing.assert_array_equal(noisy.support.x, waves.support.x)
    np.testing.assert_array_equal(noisy.query.y, waves.query.y)
    noise = (noisy.support.y - waves.support.y).ravel()
    assert abs(noise.mean()) < 4 * 0.3 / len(noise) ** 0.5
    assert abs(noise.std() - 0.3) < 4 * 0.3 / (2 * len(noise)) ** 0.5


def pooled(tasks):
    """All rows of a batch of tasks: `x [N, D]`, `y [N]` in -1, 1."""
    x = np.concatenate([tasks.support.x, tasks.query.x], axis=1)
    y = np.concatenate([tasks.support.y, tasks.query.y], axis=1)
    assert set(np.unique(y)) == {0, 1}
    return x.reshape(-1, x.shape[-1]), 2.0 * y.reshape(-1) - 1.0


def normal_of(tasks):
    """The unit normal of the plane through the origin that a perceptron finds, if there is one."""
    x, y = pooled(jax.tree.map(lambda leaf: leaf[:5], tasks))
    normal = np.linalg.lstsq(x, y, rcond=None)[0]
    for _ in range(1000):
        wrong = y * (x @ normal) <= 0
        if not wrong.any():
            return normal / np.linalg.norm(normal)
        normal = normal + 0.001 * (y[wrong] @ x[wrong])
    return pytest.fail(f"no plane parts the classes: {wrong.mean():.1%} are on the wrong side")


def test_one_plane_parts_the_classes_of_each_task_in_every_draw():
    planes = [normal_of(draw(two_tasks, task=task)) for task in (0, 1)]
    assert abs(planes[0] @ planes[1]) < 0.95
    mixed = draw(two_tasks)
    number = mixed.description.argmax(1)
    assert 72 < number.sum() < 128  # both are drawn
    for which, plane in enumerate(planes):
        x, y = pooled(jax.tree.map(lambda leaf: leaf[number == which], mixed))  # noqa: B023
        assert np.mean(np.sign(x @ plane) == y) > 0.97
        assert np.mean(np.sign(x @ planes[1 - which]) == y) < 0.9


def test_the_seed_draws_the_planes():
    first, other = draw(two_tasks, task=0), draw(two_tasks, task=0, seed=1)
    again = jax.jit(jax.vmap(two_tasks(task=0, seed=0)))(KEYS)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    np.testing.assert_array_equal(first.support.x, other.support.x)
    assert abs(normal_of(first) @ normal_of(other)) < 0.95


def test_a_fixed_task_is_told_by_its_description():
    for task in (0, 1):
        description = draw(two_tasks, task=task).description
        np.testing.assert_array_equal(description, np.tile(np.eye(2)[task], (200, 1)))
    description = draw(two_tasks).description
    np.testing.assert_array_equal(np.sort(description), np.tile([0, 1], (200, 1)))


def test_without_a_rule_labels_are_fair_coins():
    for task in (0, 1):
        x, y = pooled(draw(two_tasks, rule=False, task=task))
        limit = 4 / len(y) ** 0.5
        assert len(y) == 40_000 and abs(y.mean()) < limit
        assert np.abs(x.T @ y / len(y)).max() < limit
        products = np.einsum("ni,nj,n->ij", x, x, y) / len(y)
        assert np.abs(products).max() < 2 * limit
        plane = normal_of(draw(two_tasks, task=task))
        assert abs(np.mean(np.sign(x @ plane) * y)) < limit


def test_without_a_rule_support_and_query_labels_are_drawn_apart():
    tasks = draw(two_tasks, rule=False, task=0)
    assert abs(np.mean((tasks.support.y == tasks.query.y) - 0.5)) < 4 * 0.5 / 20_000**0.5


def test_sizes_types_and_standard_normal_rows():
    tasks = draw(two_tasks, shots=7, queries=9, features=3)
    for part, rows in ((tasks.support, 7), (tasks.query, 9)):
        assert part.x.shape == (200, rows, 3) and part.x.dtype == np.float32
        assert part.y.shape == (200, rows) and part.y.dtype == np.int32
        np.testing.assert_array_equal(part.mask, np.ones((200, rows)))
    x, _ = pooled(tasks)
    np.testing.assert_allclose(np.cov(x.T), np.eye(3), atol=0.12)
    np.testing.assert_allclose(x.mean(0), np.zeros(3), atol=0.08)


@pytest.mark.parametrize("build", [sinusoids, two_tasks])
def test_is_a_function_of_the_key_under_jit_and_vmap(build):
    sampler, together = build(shots=2, queries=2), draw(build, shots=2, queries=2)
    for row in range(2):
        alone = sampler(KEYS[row])
        jax.tree.map(np.testing.assert_array_equal, alone, sampler(KEYS[row]))
        for many, one in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(many[row], one, rtol=1e-5, atol=1e-6)
    assert len(np.unique(together.support.x[:, 0, 0])) == 200  # every key its own rows


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (sinusoids, {"shots": 0}, "shots must be 1 or more, got 0"),
        (sinusoids, {"queries": -1}, "queries must be 1 or more"),
        (two_tasks, {"shots": 0}, "shots must be 1 or more"),
        (two_tasks, {"queries": 0}, "queries must be 1 or more"),
        (two_tasks, {"features": 0}, "features must be 1 or more"),
        (two_tasks, {"task": 2}, "tasks 0 and 1, got task=2"),
        (two_tasks, {"task": -1}, "tasks 0 and 1, got task=-1"),
    ],
)
def test_mistakes_are_refused(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
