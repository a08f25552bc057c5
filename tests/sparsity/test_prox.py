"""Proximal operators against brute-force minimisers, and descent by them against scikit-learn."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from sklearn.linear_model import Lasso

from jaxmeta import sparsity

RNG = np.random.default_rng(0)
STEPS = [0.0, 0.02, 0.3, 1.5]
SEPARABLE = {
    "soft_threshold": (sparsity.soft_threshold, sparsity.l1),
    "shrink": (sparsity.scale_down, sparsity.l2_squared),
    "elastic_threshold": (sparsity.elastic_threshold(0.3), sparsity.elastic_net(0.3)),
    "log_threshold, convex at small steps": (sparsity.log_threshold(0.5), sparsity.log_sum(0.5)),
    "log_threshold, with a jump": (sparsity.log_threshold(0.1), sparsity.log_sum(0.1)),
}
GROUPED = {
    "of rows": (sparsity.group_threshold(-1), sparsity.group_lasso(-1)),
    "of columns": (sparsity.group_threshold(0), sparsity.group_lasso(0)),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", SEPARABLE)
def test_entry_by_entry_the_least_over_a_grid(name, step, x64):
    prox, penalty = SEPARABLE[name]
    w = np.linspace(-2.0, 2.0, 23)
    grid = np.arange(-21_000, 21_001) / 10_000
    cost = np.asarray(jax.vmap(lambda v: penalty(v[None]))(jnp.asarray(grid)))
    want = [grid[np.argmin(0.5 * (grid - w_i) ** 2 + step * cost)] for w_i in w]
    np.testing.assert_allclose(prox(jnp.asarray(w), step), want, atol=1e-4)


@pytest.mark.parametrize("step", [0.0, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("name", GROUPED)
def test_groups_are_what_a_search_finds(name, step, x64):
    prox, penalty = GROUPED[name]
    w = np.random.default_rng(1).normal(size=(2, 3))

    @jax.jit
    def cost(v):
        return 0.5 * jnp.square(v - w.ravel()).sum() + step * penalty(v.reshape(w.shape))

    options = {"xatol": 1e-7, "fatol": 1e-13, "maxiter": 6000, "maxfev": 6000}
    starts = [w.ravel(), 0.01 * w.ravel()]
    found = [
        scipy.optimize.minimize(cost, v, method="Nelder-Mead", options=options) for v in starts
    ]
    least = min(found, key=lambda each: each.fun)
    got = prox(jnp.asarray(w), step)
    assert cost(got.ravel()) <= least.fun + 1e-9


def test_a_group_vanishes_as_a_whole_and_a_bias_entry_by_entry():
    w = {"kernel": jnp.array([[0.1, -0.1], [3.0, 4.0]]), "bias": jnp.array([0.1, 2.0])}
    got = sparsity.group_threshold(-1)(w, 0.5)
    np.testing.assert_array_equal(got["kernel"][0], 0.0)
    np.testing.assert_allclose(got["kernel"][1], w["kernel"][1] * (1 - 0.5 * 2**0.5 / 5), rtol=1e-6)
    np.testing.assert_allclose(got["bias"], [0.0, 1.5])


@pytest.mark.parametrize("step", [0.0, 0.05, 0.4, 9.0])
@pytest.mark.parametrize(("least", "most"), [(0, None), (2, None), (0, 3), (2, 4), (3, 3)])
def test_hard_threshold_is_the_best_subset_in_the_box(least, most, step):
    w = np.random.default_rng(2).normal(size=6).astype(np.float32)
    sizes = range(least, (6 if most is None else most) + 1)
    subsets = [set(kept) for n in sizes for kept in itertools.combinations(range(6), n)]
    cost = [0.5 * sum(w[i] ** 2 for i in range(6) if i not in s) + step * len(s) for s in subsets]
    best = subsets[int(np.argmin(cost))]
    want = np.where(np.isin(np.arange(6), list(best)), w, 0.0)
    got = sparsity.hard_threshold(least, most)(
        {"a": jnp.asarray(w[:4]), "b": jnp.asarray(w[4:])}, step
    )
    np.testing.assert_array_equal(np.concatenate([got["a"], got["b"]]), want)


@pytest.mark.parametrize(("per", "axis"), [("input", 1), ("unit", 0)])
def test_top_k_keeps_the_longest_rows_or_columns_whole(per, axis):
    kernel = RNG.normal(size=(6, 4)).astype(np.float32)
    norms = np.linalg.norm(kernel, axis=axis)
    kept = norms >= np.sort(norms)[-2]
    want = kernel * (kept[:, None] if per == "input" else kept[None])
    w = {"kernel": jnp.asarray(kernel), "bias": jnp.ones(4)}
    got = sparsity.top_k(0.5 if per == "unit" else 0.34, per=per)(w)
    np.testing.assert_array_equal(got["kernel"], want)
    np.testing.assert_array_equal(got["bias"], 1.0)
    assert sparsity.live_inputs(got) + sparsity.live_units(got) == (6 if per == "input" else 8)


def test_a_relative_step_is_in_units_of_each_leaf():
    w = {"a": jnp.array([3.0, -4.0, 0.0, 0.0]), "zeros": jnp.zeros(3), "labels": jnp.arange(3)}
    prox = sparsity.relative(sparsity.soft_threshold)
    got = prox(w, 0.4)  # the root mean square of a is 2.5
    np.testing.assert_allclose(got["a"], [2.0, -3.0, 0.0, 0.0], rtol=1e-6)
    np.testing.assert_array_equal(got["zeros"], 0.0)
    np.testing.assert_allclose(prox({"a": 10 * w["a"]}, 0.4)["a"], 10 * got["a"], rtol=1e-6)


@pytest.mark.parametrize("name", [*SEPARABLE, *GROUPED])
def test_derivatives_are_finite_at_zero_and_dtypes_are_kept(name):
    prox, _ = (SEPARABLE | GROUPED)[name]
    w = {"kernel": jnp.zeros((2, 3)).at[1].set(1.0), "labels": jnp.arange(3)}
    energy = lambda k: jnp.square(prox(w | {"kernel": k}, 0.1)["kernel"]).sum()  # noqa: E731
    half = w["kernel"].astype(jnp.bfloat16)
    grad, pruned, pruned_half = jax.jit(
        lambda: (jax.grad(energy)(w["kernel"]), prox(w, 0.1), prox(half, 0.1))
    )()
    assert np.isfinite(grad).all()
    assert pruned_half.dtype == jnp.bfloat16
    np.testing.assert_array_equal(pruned["labels"], w["labels"])


# Descent.

ROWS, FEATURES, ETA = 60, 20, 0.1


@pytest.fixture(scope="module")
def regression():
    x = RNG.normal(size=(ROWS, FEATURES)).astype(np.float32)
    truth = np.where(np.arange(FEATURES) < 4, 2.0, 0.0)
    return x, (x @ truth + 0.5 * RNG.normal(size=ROWS)).astype(np.float32)


def descend(tx, x, y, steps):
    grad = jax.grad(lambda v: 0.5 * jnp.square(x @ v - y).mean())

    def step(carry, _):
        v, state = carry
        updates, state = tx.update(grad(v), state, v)
        return (optax.apply_updates(v, updates), state), None

    start = jnp.zeros(FEATURES)
    (v, _), _ = jax.jit(lambda: jax.lax.scan(step, (start, tx.init(start)), length=steps))()
    return np.asarray(v)


@pytest.mark.parametrize("kind", ["rate", "schedule", "momentum"])
def test_proximal_descent_converges_to_the_lasso(kind, regression):
    x, y = regression
    largest = np.linalg.eigvalsh(x.T @ x / ROWS)[-1]
    rate, momentum = 1.0 / largest, None
    if kind == "schedule":
        rate = optax.exponential_decay(rate, 400, 0.5)
    if kind == "momentum":
        momentum = 0.5
    descent = optax.sgd(rate if momentum is None else rate * (1 - momentum), momentum=momentum)
    tx = sparsity.proximal(descent, sparsity.soft_threshold, rate=rate, eta=ETA)
    got = descend(tx, x, y, 1500)
    want = Lasso(alpha=ETA, fit_intercept=False, tol=1e-10, max_iter=100_000)
    want = want.fit(x.astype(float), y.astype(float)).coef_
    assert 0 < np.count_nonzero(want) < FEATURES
    np.testing.assert_allclose(got, want, atol=1e-4)
    np.testing.assert_array_equal(got == 0, want == 0)


def test_only_the_masked_part_of_theta_gets_zeros():
    theta = {"sparse": jnp.array([0.05, 1.0]), "dense": jnp.array([0.05, 1.0])}
    tx = optax.masked(
        sparsity.proximal(optax.sgd(1.0), sparsity.soft_threshold, rate=1.0, eta=0.1),
        {"sparse": True, "dense": False},
    )
    still = jax.tree.map(jnp.zeros_like, theta)
    updates, _ = tx.update(still, tx.init(theta), theta)
    theta = optax.apply_updates(theta, updates)
    np.testing.assert_allclose(theta["sparse"], [0.0, 0.9])
    np.testing.assert_allclose(theta["dense"], [0.05, 1.0])


def test_proximal_refuses_negative_weights_and_no_parameters():
    for weights in ({"rate": -1.0}, {"rate": 1.0, "eta": -1.0}, {"rate": float("nan")}):
        with pytest.raises(ValueError, match="zero or more"):
            sparsity.proximal(optax.sgd(1.0), sparsity.soft_threshold, **weights)
    tx = sparsity.proximal(optax.sgd(1.0), sparsity.soft_threshold, rate=1.0)
    with pytest.raises(ValueError, match="update\\(updates, state, params\\)"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
