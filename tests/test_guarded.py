"""A guarded derivative is the chain rule's where that is finite, and the limit where it is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta._guarded import bounded_cotangent, finite_derivative, no_derivative

BOUND = 2.0


def clip(g):
    """The identity below a bound, as optax writes it."""
    norm = jnp.sqrt(jnp.sum(g**2))
    return jnp.where(norm < BOUND, g, g / norm * BOUND)


def clip_in_branch(g):
    return jax.lax.cond(jnp.sum(g**2) < 9.0, clip, lambda g: g**3, g)


def clip_in_scan(g):
    return jax.lax.scan(lambda carry, _: (jax.jit(clip)(carry), None), g, length=3)[0]


def divide_by_size(g):
    return g / (jnp.sqrt(g**2) + 1e-3)


def log_of_taken(g):
    return jnp.where(g > 0, jnp.log(g) + 1 / g + g**-1.5, g)


FUNCTIONS = [clip, clip_in_branch, clip_in_scan, divide_by_size, log_of_taken]
SLOPES_AT_ZERO = [1.0, 1.0, 1.0, 1e3, 1.0]


@pytest.mark.parametrize(("function", "slope"), list(zip(FUNCTIONS, SLOPES_AT_ZERO, strict=True)))
def test_the_derivative_at_zero_is_the_limit(function, slope):
    zero = jnp.zeros(3)
    assert not np.isfinite(jax.jacrev(function)(zero)).all()
    guarded = finite_derivative(function)
    for jacobian in (jax.jacrev, jax.jacfwd):
        for way in (guarded, jax.jit(guarded), jax.checkpoint(guarded)):
            np.testing.assert_allclose(jacobian(way)(zero), slope * np.eye(3), rtol=1e-6)
    batch = jax.vmap(jax.jacrev(guarded))(jnp.zeros((2, 3)))
    np.testing.assert_allclose(batch, slope * np.broadcast_to(np.eye(3), (2, 3, 3)), rtol=1e-6)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_elsewhere_nothing_changes(function):
    for seed in range(3):
        x = jnp.abs(jax.random.normal(jax.random.key(seed), (3,))) + 0.1
        guarded = finite_derivative(function)
        np.testing.assert_array_equal(guarded(x), function(x))
        jacobians = [jax.jacrev(f)(x) for f in (guarded, function)]
        np.testing.assert_allclose(*jacobians, rtol=1e-5, atol=1e-6)
        curvature = [jax.hessian(lambda x, f=f: f(x).sum())(x) for f in (guarded, function)]
        np.testing.assert_allclose(*curvature, rtol=1e-4, atol=1e-4)


def test_what_is_closed_over_has_a_derivative_too():
    def outer(rate):
        return finite_derivative(lambda g: rate * clip(g))(jnp.arange(3.0)).sum()

    np.testing.assert_allclose(jax.grad(outer)(0.5), clip(jnp.arange(3.0)).sum(), rtol=1e-6)


def test_integers_and_keys_pass_through():
    def function(g, count, key):
        return (
            g / jnp.sqrt(jnp.sum(g**2) + count.astype(g.dtype)),
            count + 1,
            jax.random.split(key)[0],
        )

    key = jax.random.key(1)
    grad = jax.grad(lambda g: finite_derivative(function)(g, jnp.int32(4), key)[0].sum())(
        jnp.zeros(2)
    )
    np.testing.assert_allclose(grad, 0.5)
    _, count, new = finite_derivative(function)(jnp.zeros(2), jnp.int32(4), key)
    assert count == 5 and new == jax.random.split(key)[0]


def test_a_refusal_is_heard_at_differentiation_alone():
    refusing = no_derivative(jnp.sin, "no slope here")
    np.testing.assert_array_equal(jax.jit(refusing)(1.0), jnp.sin(1.0))
    with pytest.raises(ValueError, match="no slope here"):
        jax.grad(refusing)(1.0)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_absurd_cotangents_are_cut_off_and_nan_is_not(dtype):
    x = {"a": jnp.ones(3, dtype), "n": jnp.int32(1)}
    back = jax.vjp(lambda a: bounded_cotangent(x | {"a": a})["a"], x["a"])[1]
    small = jnp.asarray([1e-5, -3.0, 50.0], dtype)
    np.testing.assert_array_equal(back(small)[0], small)
    wild = back(jnp.asarray([jnp.inf, jnp.nan, 1.0], dtype))[0]
    assert np.isnan(wild[1]) and wild[2] == 1
    if dtype != "float16":
        assert 1e19 < wild[0] < 2e19
