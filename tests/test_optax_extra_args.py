"""Optimisers of optax that ask for more than a gradient, inside and outside; and strict types."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import _optax, inner, make_step, sparsity, training
from jaxmeta.inner import learned_rates, masked_updates
from jaxmeta.types import Examples, MetaLearner, Task
from tests.curved import objective, outer, thetas
from tests.optimisers import OPTIMISERS, SEARCHES


@pytest.fixture(autouse=True)
def standard_promotion():
    """Bare optax, which ours is held to here, mixes integers and numbers."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.parametrize("name", SEARCHES)
def test_a_line_search_descends_and_learns_where_it_can(name, x64):
    theta = jax.tree.map(lambda leaf: leaf[0], thetas("float64"))
    tx = SEARCHES[name]()
    w = jax.jit(lambda theta: inner.descend(objective, *theta, inner.Descent(tx, 60)))(theta)
    assert objective(w, theta[1]) < 1e-3 * objective(*theta)
    with pytest.raises(ValueError, match="'first_order', 'implicit' or 'evolution'"):
        jax.grad(outer)(theta, tx)
    start, _ = jax.jit(jax.grad(lambda theta: outer(theta, tx, mode="first_order")))(theta)
    w = inner.descend(objective, *theta, inner.Descent(tx, 3))
    want = jax.tree.map(lambda leaf: 3 * jnp.cos(3 * leaf + 1), w)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), start, want)
    # At the solution w is the target, whatever the start.
    _, target = jax.jit(jax.grad(lambda theta: outer(theta, tx, 60, "implicit")))(theta)
    want = jax.tree.map(lambda leaf: 3 * jnp.cos(3 * leaf + 1), theta[1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0.05, atol=0.05), target, want)


def test_wrappers_of_an_optimiser_pass_on_what_it_asks():
    theta = jax.tree.map(lambda leaf: leaf[0], thetas("float32"))
    learned = masked_updates(optax.polyak_sgd(0.1), sparsity.hard_concrete(0.9))
    tx = learned.build(learned.init(theta[0]), None)
    w = inner.descend(objective, *theta, inner.Descent(tx, 3))
    assert objective(w, theta[1]) < objective(*theta)
    prox = sparsity.proximal(optax.lbfgs(), sparsity.soft_threshold, rate=1e-3)
    w = inner.descend(objective, *theta, inner.Descent(prox, 5))
    assert objective(w, theta[1]) < 0.1 * objective(*theta)
    plain = learned_rates(0.1).build({}, None)
    assert not isinstance(_optax.like(plain, None, None), optax.GradientTransformationExtraArgs)


@pytest.mark.parametrize(
    ("tx", "message"),
    [
        (optax.contrib.sophia(0.1), "obj_fn"),
        (optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.1), opaque_mode=True), "grad_fn"),
        (optax.chain(optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.1))), "unexpected keyword"),
        (optax.GradientTransformationExtraArgs(lambda w: (), lambda g, s, w, *, hvp: g), "'hvp'"),
    ],
)
def test_what_is_not_at_hand_is_refused_by_name(tx, message):
    theta = jax.tree.map(lambda leaf: leaf[0], thetas("float32"))
    with pytest.raises(ValueError, match=message):
        inner.descend(objective, *theta, inner.Descent(tx, 3))
    state = training.init(LINE, tx, jax.random.key(0), task(0))
    with pytest.raises(ValueError, match=message):
        make_step(squares, tx)(state, BATCH)


def task(seed):
    x, y = jax.random.normal(jax.random.key(seed), (2, 5, 3))
    rows = Examples(x, y[:, :1] + x @ jnp.ones((3, 1)), jnp.ones(5))
    return Task(rows, rows)


LINE = MetaLearner(
    lambda key, task: jnp.zeros((3, 1)),
    lambda theta, support, *, description=None, key=None: theta,
    lambda theta, w, x: x @ w,
)
BATCH = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(task, range(4)))


def squares(theta, task, key):
    loss = jnp.mean((task.query.x @ theta - task.query.y) ** 2)
    return loss, {"error": loss}


def solution():
    x, y = BATCH.query.x.reshape(-1, 3), BATCH.query.y.reshape(-1, 1)
    return np.linalg.lstsq(x, y)[0]


ASKING = SEARCHES | {
    "polyak": lambda: optax.polyak_sgd(0.1),
    "plateau": OPTIMISERS["plateau"],
    "plateau, clip": lambda: optax.chain(optax.clip_by_global_norm(1.0), OPTIMISERS["plateau"]()),
}


@pytest.mark.parametrize("name", ASKING)
def test_the_outer_step_gives_the_loss_of_the_whole_batch(name):
    ends = []
    for options in ({"tasks_per_chunk": 4}, {"tasks_per_chunk": 2}, {"on_bad_task": "skip"}):
        tx = ASKING[name]()
        state = training.init(LINE, tx, jax.random.key(0), task(0))
        step = jax.jit(make_step(squares, tx, **options))
        for _ in range(8):
            state, metrics = step(state, BATCH)
        assert set(metrics) == {"error"} | ({"bad_tasks"} if "on_bad_task" in options else set())
        ends.append(np.asarray(state.theta))
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ends[2], ends[0], rtol=1e-4, atol=1e-4)
    if name == "lbfgs":
        np.testing.assert_allclose(ends[0], solution(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["adam", "adamw", "injected", "adafactor", "polyak_sgd"])
def test_optax_runs_where_types_may_not_be_mixed(name):
    with jax.numpy_dtype_promotion("strict"):
        tx = OPTIMISERS[name]()
        state = training.init(LINE, tx, jax.random.key(0), task(0))
        jax.jit(make_step(squares, tx))(state, BATCH)
        theta = jax.tree.map(lambda leaf: leaf[1], thetas("float32"))
        jax.jit(jax.grad(lambda theta: outer(theta, tx, 2, objective=half)))(theta)


def half(w, target):
    gaps = jax.tree.leaves(jax.tree.map(jnp.subtract, w, target))
    return sum(jnp.sum(gap * gap) for gap in gaps)
