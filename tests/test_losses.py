"""Losses of one task against NumPy, with padded rows that hold rubbish."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import losses
from tests import references

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(6, 4)).astype(np.float32)
LABELS = np.array([0, 2, 1, -1, 1, -1], np.int32)
TARGETS = RNG.normal(size=(6, 4)).astype(np.float32)
MASK = (LABELS >= 0).astype(np.float32)

CASES = {
    "cross_entropy": (losses.cross_entropy, references.cross_entropy, LABELS),
    "squared_error": (losses.mean_squared_error, references.squared_error, TARGETS),
    "squared_error beside a spread": (
        losses.mean_squared_error,
        lambda z, y, mask: references.squared_error(z[:, :2], y, mask),
        TARGETS[:, :2],
    ),
    "gaussian": (losses.gaussian_nll, references.gaussian, TARGETS[:, :2]),
    "accuracy": (losses.accuracy, references.accuracy, LABELS),
}
SMOOTH = [name for name in CASES if name != "accuracy"]


@pytest.mark.parametrize("name", CASES)
def test_is_the_mean_over_real_rows(name):
    loss, oracle, y = CASES[name]
    np.testing.assert_allclose(loss(Z, y, MASK), oracle(Z, y, MASK), rtol=1e-6)


@pytest.mark.parametrize("rubbish", [1e30, np.inf, np.nan])
@pytest.mark.parametrize("name", CASES)
def test_padded_rows_may_hold_anything(name, rubbish):
    loss, oracle, y = CASES[name]
    z = np.where(MASK[:, None] > 0, Z, np.float32(rubbish))
    np.testing.assert_allclose(loss(z, y, MASK), oracle(Z, y, MASK), rtol=1e-6)


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_are_finite_differences_and_zero_in_padding(name, x64):
    loss, oracle, y = CASES[name]
    z = Z.astype(np.float64)
    grad = np.asarray(jax.grad(loss)(z, y, MASK.astype(np.float64)))
    np.testing.assert_array_equal(grad[MASK == 0], 0.0)
    for i, j in np.ndindex(z.shape):
        up, down = z.copy(), z.copy()
        up[i, j] += 1e-5
        down[i, j] -= 1e-5
        want = (oracle(up, y, MASK) - oracle(down, y, MASK)) / 2e-5
        np.testing.assert_allclose(grad[i, j], want, atol=1e-8)


@pytest.mark.parametrize("name", CASES)
def test_mask_may_be_boolean_or_integer(name):
    loss, oracle, y = CASES[name]
    want = oracle(Z, y, MASK)
    for mask in (MASK > 0, MASK.astype(np.int32)):
        np.testing.assert_allclose(loss(Z, y, jnp.asarray(mask)), want, rtol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_no_real_row_at_all_costs_nothing(name):
    loss, _, y = CASES[name]
    assert loss(Z, y, np.zeros(6, np.float32)) == 0.0


def test_cross_entropy_of_huge_logits_is_finite():
    z = np.array([[1e4, -1e4], [1e4, -1e4]], np.float32)
    got = losses.cross_entropy(z, np.array([0, 1]), np.ones(2, np.float32))
    np.testing.assert_allclose(got, 1e4)


def test_cross_entropy_of_equal_logits_is_log_ways():
    got = losses.cross_entropy(np.zeros((4, 5), np.float32), np.arange(4), np.ones(4, np.float32))
    np.testing.assert_allclose(got, np.log(5.0), rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in SMOOTH if name != "cross_entropy"])
def test_regression_may_hold_anything_in_padded_rows(name):
    loss, _, y = CASES[name]
    padded = MASK[:, None] == 0
    bad_z, bad_y = np.where(padded, np.float32(np.inf), Z), np.where(padded, np.float32(np.nan), y)
    grad = jax.grad(loss)
    np.testing.assert_array_equal(grad(bad_z, bad_y, MASK), grad(Z, y, MASK))


@pytest.mark.parametrize("columns", [1, 3, 5])
@pytest.mark.parametrize("shape", [(4,), (4, 2)])
def test_squared_error_refuses_targets_of_another_shape(shape, columns):
    # z [N, 1] against y [N] would broadcast to [N, N], and train on nonsense.
    with jax.numpy_rank_promotion("allow"), pytest.raises(ValueError, match=r"z \[N, D\]"):
        losses.mean_squared_error(jnp.ones((4, columns)), jnp.ones(shape), jnp.ones(4))


@pytest.mark.parametrize("columns", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(4,), (4, 2)])
def test_gaussian_refuses_anything_but_two_columns_a_target(shape, columns):
    with jax.numpy_rank_promotion("allow"), pytest.raises(ValueError, match=r"z \[N, 2 D\]"):
        losses.gaussian_nll(jnp.ones((4, columns)), jnp.ones(shape), jnp.ones(4))
