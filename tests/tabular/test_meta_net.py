"""The tabular meta-net as a whole: its symmetries, as many terms as asked for, its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import losses, meta_objective, sparsity
from jaxmeta.tabular import meta_net
from tests.tabular.small_net import DESCRIPTION, LEARNER, ROWS, answer, table


@pytest.fixture(scope="module")
def theta():
    """Not as it starts: every head says something."""
    start = LEARNER.init(jax.random.key(0), table())
    keys = iter(jax.random.split(jax.random.key(1), 100))
    return jax.tree.map(lambda a: a + 0.1 * jax.random.normal(next(keys), a.shape), start)


def logits(theta, task):
    return np.asarray(answer(theta, task.support, task.query.x, task.description)[0])


@pytest.fixture(autouse=True)
def standard_promotion():
    """Tests may mix types as NumPy does; `tabular` sees to its own promotion."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.parametrize("num_terms", [0, 5])
def test_no_order_of_rows_columns_or_classes_matters(theta, num_terms):
    task = table()._replace(description=DESCRIPTION._replace(num_terms=jnp.int32(num_terms)))
    expected = logits(theta, task)
    rng = np.random.default_rng(0)
    rows = rng.permutation(ROWS)
    support = jax.tree.map(lambda leaf: leaf[rows], task.support)
    np.testing.assert_allclose(logits(theta, task._replace(support=support)), expected, atol=2e-3)
    columns = np.asarray([2, 0, 1])
    moved = jax.tree.map(lambda leaf: leaf[..., columns] if leaf.ndim == 3 else leaf, task)
    moved = moved._replace(
        description=task.description._replace(categorical=DESCRIPTION.categorical[columns])
    )
    np.testing.assert_allclose(logits(theta, moved), expected, atol=2e-3)
    classes = np.asarray([2, 0, 1])  # class c becomes classes[c]
    support = task.support._replace(y=jnp.asarray(classes)[task.support.y])
    found = logits(theta, task._replace(support=support))[:, classes]
    np.testing.assert_allclose(jax.nn.softmax(found), jax.nn.softmax(expected), atol=2e-3)


@pytest.mark.slow
def test_padded_rows_and_absent_columns_change_nothing(theta, pad):
    task = table()
    expected = logits(theta, task)
    np.testing.assert_allclose(logits(theta, pad(task, 1e6)), expected, atol=2e-3)
    rubbish = lambda x: jnp.where(x[:, 1:] > 0, x, jnp.stack([77.0 + x[:, 1], x[:, 1]], 1))  # noqa: E731
    unknown = jax.tree.map(lambda leaf: rubbish(leaf) if leaf.ndim == 3 else leaf, task)
    np.testing.assert_allclose(logits(theta, unknown), expected, atol=1e-4)
    wide = jax.tree.map(
        lambda leaf: jnp.pad(leaf, ((0, 0), (0, 0), (0, 2))) if leaf.ndim == 3 else leaf, task
    )
    codes = jnp.pad(DESCRIPTION.categorical, (0, 2))
    wide = wide._replace(description=DESCRIPTION._replace(categorical=codes))
    np.testing.assert_allclose(logits(theta, wide), expected, atol=2e-3)


@pytest.mark.slow
def test_many_tasks_at_once_are_the_same_as_one_by_one(theta):
    several = [table(seed) for seed in range(3)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *several)
    run = jax.vmap(lambda s, x, d: answer(theta, s, x, d)[0])
    together = jax.jit(run)(batch.support, batch.query.x, batch.description)
    for one, task in zip(together, several, strict=True):
        np.testing.assert_allclose(one, logits(theta, task), atol=2e-3)


@pytest.mark.parametrize("num_terms", [1, 4, 12])
def test_the_gate_keeps_as_many_terms_as_asked_for(theta, num_terms, count_traces):
    task = table()
    description = DESCRIPTION._replace(num_terms=jnp.int32(num_terms))
    w = answer(theta, task.support, task.query.x, description)[1]
    assert int((w.kernel != 0).any(axis=1).sum()) == num_terms


def test_few_terms_say_nearly_what_all_say(theta):
    task = table()
    dense = jax.nn.softmax(logits(theta, task))
    gaps = []
    for num_terms in (2, 6, 14):
        description = DESCRIPTION._replace(num_terms=jnp.int32(num_terms))
        few = jax.nn.softmax(logits(theta, task._replace(description=description)))
        gaps.append(float(jnp.abs(few - dense).mean()))
    assert gaps[0] > gaps[1] > gaps[2] and gaps[2] < 0.03


def test_one_program_serves_all_sizes_of_model(theta, count_traces):
    task = table()
    run, traces = count_traces(
        lambda k: (
            LEARNER.adapt(theta, task.support, description=DESCRIPTION._replace(num_terms=k)).kernel
        )
    )
    for k in (0, 4, 9):
        run(jnp.int32(k))
    assert len(traces) == 1


LOSS = meta_objective(LEARNER, losses.cross_entropy, lambda w: sparsity.l1(w.kernel), eta=1e-3)


GRADIENT = jax.jit(jax.grad(lambda theta, task: LOSS(theta, task, None)[0]))


@pytest.mark.slow
def test_the_gradient_is_that_of_finite_differences(theta, x64):
    task, theta = x64(table()), x64(theta)
    loss = jax.jit(lambda theta: LOSS(theta, task, None)[0])
    gradient = jax.grad(loss)(theta)
    rng = np.random.default_rng(0)
    direction = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), theta)
    moved = [jax.tree.map(lambda a, d, h=h: a + h * d, theta, direction) for h in (1e-5, -1e-5)]
    expected = (loss(moved[0]) - loss(moved[1])) / 2e-5
    found = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (g * d).sum(), gradient, direction)))
    # What weighs the fits for the encoder's rows is held constant: log_beta is left out of those.
    np.testing.assert_allclose(found, expected, rtol=2e-2)


@pytest.mark.slow
def test_gradients_are_finite_on_tables_with_nothing_in_them(theta):
    task = table()
    x = jnp.zeros_like(task.support.x)
    constant = task._replace(support=task.support._replace(x=x.at[:, 1].set(1.0)))
    empty = task._replace(support=task.support._replace(x=x))
    single = task._replace(support=task.support._replace(mask=task.support.mask.at[1:].set(0.0)))
    one_class = task._replace(support=task.support._replace(y=jnp.zeros_like(task.support.y)))
    for odd in (constant, empty, single, one_class):
        for num_terms in (0, 3):
            description = DESCRIPTION._replace(num_terms=jnp.int32(num_terms))
            found = GRADIENT(theta, odd._replace(description=description))
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_what_it_cannot_read_is_refused(theta):
    task = table()
    with pytest.raises(ValueError, match=r"x \[N, 2, D\]"):
        flat = task.support._replace(x=task.support.x[:, 0])
        LEARNER.adapt(theta, flat, description=DESCRIPTION)
    with pytest.raises(ValueError, match="TableDescription"):
        LEARNER.adapt(theta, task.support)
    with pytest.raises(ValueError, match="do not divide"):
        meta_net.tabular(size=10, num_heads=4)
