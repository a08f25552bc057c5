"""Any optax optimiser in the inner loop: derivatives, finite and those of differences; values."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import _optax, inner
from tests.curved import ZERO, objective, outer, thetas
from tests.optimisers import OPTIMISERS

FEW = ["adam", "adafactor", "clip_by_global_norm, sgd", "adaptive_grad_clip, adamw", "polyak_sgd"]


@pytest.fixture(autouse=True)
def standard_promotion():
    """Bare optax, which ours is held to here, mixes integers and numbers."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def assert_finite(name, dtype, **options):
    grad = jax.grad(lambda theta: outer(theta, OPTIMISERS[name](), **options))
    for leaf in jax.tree.leaves(jax.jit(jax.vmap(grad))(thetas(dtype))):
        assert np.isfinite(np.asarray(leaf, float)).all(axis=tuple(range(1, leaf.ndim))).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_derivative_is_finite_where_a_gradient_is_zero(name):
    assert_finite(name, "float32", num_steps=8)


@pytest.mark.parametrize("num_steps", [1, 8])
@pytest.mark.parametrize("name", FEW)
def test_so_it_is_for_a_few_that_every_day_tries(name, num_steps):
    assert_finite(name, "float32", num_steps=num_steps)


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
    both = jax.jit(jax.value_and_grad(lambda theta: outer(theta, OPTIMISERS[name]())))
    vector, rebuild = jax.flatten_util.ravel_pytree(theta)
    slope = jax.flatten_util.ravel_pytree(both(theta)[1])[0]
    along = np.random.default_rng(0).normal(size=vector.size)
    low, high = (both(rebuild(vector + step * along))[0] for step in (-1e-6, 1e-6))
    want = (high - low) / 2e-6
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
