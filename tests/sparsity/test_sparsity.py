"""Penalties and proximal operators against NumPy and brute force."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import sparsity
from tests import references

RNG = np.random.default_rng(0)
MATRIX = RNG.normal(size=(3, 4))
VECTOR = RNG.normal(size=5)


def both(function):
    return function(MATRIX) + function(VECTOR)


def flat():
    return np.concatenate([MATRIX.ravel(), VECTOR])


def group_lasso(axis):
    return references.group_lasso(MATRIX, axis) + np.abs(VECTOR).sum()


PENALTIES = {
    "l1": (sparsity.l1, lambda: both(lambda w: np.abs(w).sum())),
    "l2": (sparsity.l2_squared, lambda: both(lambda w: (w**2).sum())),
    "elastic_net": (
        sparsity.elastic_net(0.3),
        lambda: both(lambda w: references.elastic_net(w, 0.3)),
    ),
    "group_lasso of rows": (sparsity.group_lasso(-1), lambda: group_lasso(-1)),
    "group_lasso of columns": (sparsity.group_lasso(0), lambda: group_lasso(0)),
    "hoyer": (sparsity.hoyer, lambda: references.hoyer(flat())),
    "log_sum": (sparsity.log_sum(0.3), lambda: np.log(1 + np.abs(flat()) / 0.3).sum()),
}


def tree(dtype=np.float32, **extra):
    return {"layers": [jnp.asarray(MATRIX, dtype), jnp.asarray(VECTOR, dtype)], **extra}


@pytest.mark.parametrize("name", PENALTIES)
def test_penalty_is_its_formula_summed_over_the_leaves(name):
    penalty, oracle = PENALTIES[name]
    np.testing.assert_allclose(penalty(tree()), oracle(), rtol=1e-6)


@pytest.mark.parametrize("name", PENALTIES)
def test_penalty_does_not_see_integers_and_booleans(name):
    penalty, oracle = PENALTIES[name]
    w = tree(labels=jnp.arange(7), members=jnp.ones((3, 3), bool), nothing=None)
    np.testing.assert_allclose(penalty(w), oracle(), rtol=1e-6)


@pytest.mark.parametrize("name", PENALTIES)
def test_gradient_of_penalty_is_its_finite_difference(name, x64):
    penalty, _ = PENALTIES[name]
    matrix = jnp.asarray(MATRIX)
    grad = np.asarray(jax.grad(penalty)(matrix))
    for index in np.ndindex(matrix.shape):
        move = jnp.zeros_like(matrix).at[index].set(1e-6)
        want = (penalty(matrix + move) - penalty(matrix - move)) / 2e-6
        np.testing.assert_allclose(grad[index], want, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", PENALTIES)
def test_at_zero_a_penalty_is_no_steeper_than_beside_it(name):
    penalty, _ = PENALTIES[name]
    at_zero, beside = (jax.grad(penalty)(jnp.full((2, 3), value)) for value in (0.0, 1e-3))
    assert np.isfinite(at_zero).all()
    assert (np.abs(at_zero) <= np.abs(beside) + 1e-6).all()


@pytest.mark.parametrize("axis", [0, -1])
def test_group_lasso_has_no_gradient_in_a_group_of_zeros(axis):
    rows = jnp.asarray(MATRIX, jnp.float32).at[1].set(0.0)
    grad = np.asarray(jax.grad(sparsity.group_lasso(axis))(rows if axis == -1 else rows.T))
    grad = grad if axis == -1 else grad.T
    np.testing.assert_array_equal(grad[1], 0.0)
    assert np.isfinite(grad).all() and (grad[[0, 2]] != 0.0).all()


def test_hoyer_runs_from_one_to_the_number_of_entries():
    one, equal = jnp.zeros(8).at[3].set(-5.0), jnp.full(8, 0.1)
    np.testing.assert_allclose(sparsity.hoyer(one), 1.0, rtol=1e-6)
    np.testing.assert_allclose(sparsity.hoyer(equal), 8.0, rtol=1e-6)
    np.testing.assert_allclose(sparsity.hoyer(1e3 * equal), 8.0, rtol=1e-6)


def test_group_lasso_prefers_one_whole_group():
    together = jnp.zeros((4, 4)).at[0].set(1.0)
    scattered = jnp.eye(4)
    penalty = sparsity.group_lasso(-1)
    assert penalty(together) < penalty(scattered)
    np.testing.assert_allclose(sparsity.l1(together), sparsity.l1(scattered))


# Proximal operators.


@pytest.mark.parametrize("step", [0.0, 0.3, 1.5])
def test_soft_threshold_minimises_distance_plus_l1_over_a_grid(step):
    w = np.linspace(-2.0, 2.0, 23)
    grid = np.arange(-25_000, 25_001) / 10_000
    want = [grid[np.argmin(0.5 * (grid - w_i) ** 2 + step * np.abs(grid))] for w_i in w]
    got = sparsity.soft_threshold(jnp.asarray(w, jnp.float32), step)
    np.testing.assert_allclose(got, want, atol=1e-4)
    np.testing.assert_allclose(got, references.soft_threshold(w, step), atol=1e-6)
    np.testing.assert_array_equal(np.asarray(got)[np.abs(w) < step], 0.0)


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_top_k_minimises_distance_under_a_count_limit(share):
    w = RNG.normal(size=8).astype(np.float32)
    count = int(share * 8)
    supports = itertools.combinations(range(8), count)
    best = min(supports, key=lambda kept: np.delete(w, kept) @ np.delete(w, kept))
    want = np.where(np.isin(np.arange(8), best), w, 0.0)
    np.testing.assert_array_equal(sparsity.top_k(share)(jnp.asarray(w)), want)


def test_top_k_ranks_all_leaves_together_and_rows_apart():
    everything = sparsity.top_k(0.25)(tree())
    got = np.concatenate([np.ravel(leaf) for leaf in everything["layers"]])
    np.testing.assert_array_equal(got, references.top_k(flat(), 4).astype(np.float32))
    leaves = sparsity.top_k(0.25, per="leaf")({"a": jnp.arange(4.0), "b": jnp.arange(8.0)})
    np.testing.assert_array_equal(leaves["a"], [0, 0, 0, 3])
    np.testing.assert_array_equal(leaves["b"], [0, 0, 0, 0, 0, 0, 6, 7])
    rows = sparsity.top_k(0.25, per="row")(jnp.asarray(MATRIX, jnp.float32))
    want = np.stack([references.top_k(row, 1) for row in MATRIX])
    np.testing.assert_array_equal(rows, want.astype(np.float32))


@pytest.mark.parametrize(("share", "size", "kept"), [(0.29, 100, 29), (0.57, 100, 57), (0.3, 9, 2)])
def test_top_k_rounds_the_share_down_and_no_further(share, size, kept):
    w = jnp.arange(1.0, size + 1.0)
    assert sparsity.nonzeros(sparsity.top_k(share)(w)) == kept
    assert sparsity.nonzeros(sparsity.top_k(share, per="row")(w[None])) == kept


def test_top_k_per_leaf_never_keeps_more_than_the_share():
    w = {"kernel": jnp.arange(1.0, 41.0), "bias": jnp.arange(1.0, 6.0)}
    kept = sparsity.top_k(0.1, per="leaf")(w)
    assert sparsity.nonzeros(kept["kernel"]) == 4 and sparsity.nonzeros(kept["bias"]) == 0
    assert sparsity.density(kept) <= 0.1


def test_top_k_keeps_at_least_one_entry_and_all_that_tie():
    assert sparsity.nonzeros(sparsity.top_k(1e-6)(jnp.arange(1.0, 6.0))) == 1
    assert sparsity.nonzeros(sparsity.top_k(0.25)(jnp.array([1.0, -2.0, 2.0, 0.5]))) == 2


PROXES = {
    "soft_threshold": sparsity.soft_threshold,
    "top_k": sparsity.top_k(0.5),
    "top_k per row": sparsity.top_k(0.5, per="row"),
}


@pytest.mark.parametrize("name", PROXES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_prox_leaves_integers_booleans_and_dtypes_alone(name, dtype):
    w = tree(dtype, labels=jnp.arange(-3, 4), members=jnp.eye(3, dtype=bool))
    got = PROXES[name](w, 0.5)
    np.testing.assert_array_equal(got["labels"], w["labels"])
    np.testing.assert_array_equal(got["members"], w["members"])
    assert [leaf.dtype for leaf in jax.tree.leaves(got)] == [
        leaf.dtype for leaf in jax.tree.leaves(w)
    ]
    assert 0 < sparsity.nonzeros(got) < sparsity.nonzeros(w)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_top_k_of_an_impossible_share_is_refused(share):
    with pytest.raises(ValueError, match="share of the entries"):
        sparsity.top_k(share)


def test_other_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="'input' or 'unit', got 'column'"):
        sparsity.top_k(0.5, per="column")
    with pytest.raises(ValueError, match="ratio between 0 and 1"):
        sparsity.elastic_net(1.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sparsity.log_sum(0.0), "epsilon above zero, got 0.0"),
        (lambda: sparsity.log_threshold(-1.0), "epsilon above zero, got -1.0"),
        (lambda: sparsity.elastic_threshold(-0.1), "ratio between 0 and 1"),
        (lambda: sparsity.hard_threshold(3, 2), "from least=0 or more to most=1"),
        (lambda: sparsity.hard_threshold(-1), "least=0 or more"),
    ],
)
def test_operators_refuse_what_their_penalties_cannot_mean(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("penalty", [sparsity.l1, sparsity.group_lasso(), sparsity.hoyer])
def test_a_penalty_does_not_push_what_is_exactly_zero(penalty):
    w = {"kernel": jnp.array([[0.0, 0.0], [1.0, -2.0]]), "bias": jnp.array([0.0, 3.0])}
    grad = jax.grad(penalty)(w)
    assert not grad["kernel"][0].any() and grad["bias"][0] == 0
    assert grad["kernel"][1].all()


def test_a_share_may_follow_a_traced_number():
    w = jax.random.normal(jax.random.key(0), (7, 9))
    for per in ("all", "leaf", "row"):
        traced = jax.jit(lambda share, per=per: sparsity.top_k(share, per=per)(w, 1.0))
        for share in (0.01, 0.1, 1 / 3, 0.5, 1.0):
            want = sparsity.top_k(share, per=per)(w, 1.0)
            np.testing.assert_array_equal(traced(share), want)
