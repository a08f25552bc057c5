"""Any optax optimiser inside and outside: finite derivatives, the values of optax, all it asks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import _optax, inner, make_step, sparsity, training
from jaxmeta.inner import learned_rates, masked_updates
from jaxmeta.types import Examples, MetaLearner, Task
from tests.optimisers import OPTIMISERS, SEARCHES

START = {"a": np.array([[0.3, -0.2], [0.5, 0.1], [-0.4, 0.6]]), "b": np.array([0.2, -0.4])}
ZERO = {  # Where the inner gradient is zero: 1.
    "nowhere": {"a": np.zeros((3, 2)), "b": np.zeros(2)},
    "everywhere": {"a": np.ones((3, 2)), "b": np.ones(2)},
    "a leaf": {"a": np.ones((3, 2)), "b": np.zeros(2)},
    "a unit": {"a": np.array([[1.0, 0]] * 3), "b": np.array([1.0, 0])},
    "an entry": {"a": np.array([[1.0, 0], [0, 0], [0, 0]]), "b": np.zeros(2)},
}
FEW = ["adam", "adafactor", "clip_by_global_norm, sgd", "adaptive_grad_clip, adamw", "polyak_sgd"]


@pytest.fixture(autouse=True)
def standard_promotion():
    """Bare optax, which ours is held to here, mixes integers and numbers."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def objective(w, target):
    """Least at the target, with a curvature that is not constant."""
    gaps = jax.tree.leaves(jax.tree.map(jnp.subtract, w, target))
    return sum(jnp.sum(0.5 * gap**2 + 0.1 * gap**3) for gap in gaps)


def outer(theta, tx, num_steps=3, mode="full", objective=objective):
    w = inner.descend(objective, *theta, inner.Descent(tx, num_steps, mode))
    return sum(jnp.sum(jnp.sin(3 * leaf + 1)) for leaf in jax.tree.leaves(w))


def thetas(dtype, patterns=ZERO):
    """`(start, target)` for each pattern, and for a start of zeros that fits exactly."""
    start = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), START)
    pairs = []
    for zero in patterns.values():
        gap = jax.tree.map(
            lambda leaf, z: (1 - z) * (0.31 + 0.07 * np.arange(leaf.size).reshape(leaf.shape)),
            START,
            zero,
        )
        pairs.append((start, jax.tree.map(lambda s, d: s + d.astype(dtype), start, gap)))
    nothing = jax.tree.map(jnp.zeros_like, start)
    pairs.append((nothing, nothing))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *pairs)


def assert_finite(name, dtype, **options):
    grad = jax.grad(lambda theta: outer(theta, OPTIMISERS[name](), **options))
    for leaf in jax.tree.leaves(jax.jit(jax.vmap(grad))(thetas(dtype))):
        assert np.isfinite(np.asarray(leaf, float)).all(axis=tuple(range(1, leaf.ndim))).all()


@pytest.mark.slow
@pytest.mark.parametrize("num_steps", [1, 8])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_derivative_is_finite_where_a_gradient_is_zero(name, num_steps):
    assert_finite(name, "float32", num_steps=num_steps)


@pytest.mark.parametrize("name", FEW)
def test_so_it_is_for_a_few_that_every_day_tries(name):
    assert_finite(name, "float32", num_steps=8)


@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
def test_so_it_is_in_other_modes_and_types(name, x64):
    for mode in ("remat", "mixed", "nested", "nested_mixed", "first_order", "truncated"):
        assert_finite(name, "float32", mode=mode)
    assert_finite(name, "float64")
    if name != "adafactor":  # optax's own state would change its type
        assert_finite(name, "bfloat16")


def by_hand(theta, tx):
    """Three steps of optax and nothing else."""
    (w, target), state = theta, tx.init(theta[0])
    for _ in range(3):
        value, grad = jax.value_and_grad(objective)(w, target)
        updates, state = _optax.update(tx, grad, state, w, value=value)
        w = optax.apply_updates(w, updates)
    return w


# They hold a norm constant, so that their derivative is not that of their values.
HOLDS_CONSTANT = {"lbfgs without line search", "scale_by_lbfgs, sgd"}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OPTIMISERS])
def test_elsewhere_it_is_that_of_differences(name, x64):
    theta = jax.tree.map(lambda leaf: leaf[0], thetas("float64"))
    value = jax.jit(lambda theta: outer(theta, OPTIMISERS[name]()))
    vector, rebuild = jax.flatten_util.ravel_pytree(theta)
    slope = jax.flatten_util.ravel_pytree(jax.jit(jax.grad(value))(theta))[0]
    along = np.random.default_rng(0).normal(size=vector.size)
    ends = [value(rebuild(vector + step * along)) for step in (-1e-6, 1e-6)]
    want = (ends[1] - ends[0]) / 2e-6
    if name in HOLDS_CONSTANT:
        loss = lambda w: sum(jnp.sum(jnp.sin(3 * leaf + 1)) for leaf in jax.tree.leaves(w))  # noqa: E731
        grad = jax.jit(jax.grad(lambda theta: loss(by_hand(theta, OPTIMISERS[name]()))))(theta)
        want = jax.flatten_util.ravel_pytree(grad)[0] @ along
    np.testing.assert_allclose(slope @ along, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pattern", ["everywhere", "a unit"])
@pytest.mark.parametrize("base", [optax.sgd(0.1), optax.sgd(0.1, momentum=0.9)])
def test_below_its_bound_clipping_changes_no_derivative(base, pattern, x64):
    theta = jax.tree.map(lambda leaf: leaf[0], thetas("float64", {pattern: ZERO[pattern]}))
    want = jax.grad(outer)(theta, base)
    for clip in (
        optax.clip(9.0),
        optax.clip_by_global_norm(9.0),
        optax.clip_by_block_rms(9.0),
        optax.adaptive_grad_clip(9.0),
    ):
        got = jax.grad(outer)(theta, optax.chain(clip, base))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), got, want)


@pytest.mark.parametrize("name", FEW)
def test_the_values_are_those_of_optax_to_the_bit(name):
    theta = jax.tree.map(lambda leaf: leaf[3], thetas("float32"))
    w = by_hand(theta, OPTIMISERS[name]())
    got = inner.descend(objective, *theta, inner.Descent(OPTIMISERS[name](), 3))
    jax.tree.map(np.testing.assert_array_equal, got, w)


def test_nothing_changes_for_what_has_no_root():
    """The program of plain descent is the loop written out, operation by operation."""
    theta = jax.tree.map(lambda leaf: leaf[0], thetas("float32"))

    def plain(theta):
        w, target = theta
        for _ in range(2):
            w = jax.tree.map(lambda w, g: w + -0.1 * g, w, jax.grad(objective)(w, target))
        return sum(jnp.sum(jnp.sin(3 * leaf + 1)) for leaf in jax.tree.leaves(w))

    counts = []
    for function in (plain, lambda theta: outer(theta, optax.sgd(0.1), 2)):
        compiled = jax.jit(jax.grad(function)).lower(theta).compile()
        counts.append(compiled.cost_analysis()["flops"])
    assert counts[0] == counts[1]


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
