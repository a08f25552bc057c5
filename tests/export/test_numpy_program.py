"""`numpy_program` against JAX: every operation, and `adapt` and `predict` of every learner."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxmeta.export import load_program, numpy_program
from tests import zoo

RNG = np.random.default_rng(0)
_twice = jax.custom_vjp(lambda x: 2 * x)
_twice.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))
X, Y = RNG.normal(size=(2, 4, 3)).astype(np.float32)
K = RNG.integers(-5, 5, (4, 3)).astype(np.int32)
FUNCTIONS = {
    "arithmetic": lambda: (X + Y - X * Y / (1.0 + jnp.abs(Y)), -X, X**2, jnp.abs(X) ** 0.3, X**-3),
    "whole powers": lambda: (lax.pow(X, K), jnp.abs(X) ** K.astype(jnp.float32)),
    "to integers": lambda: ((X / 0).astype(int), (X * 1e20).astype(int), (0 * X / 0).astype(int)),
    "calls": lambda: (jax.checkpoint(jnp.sin)(X), jax.jit(jnp.cos)(X), _twice(X), jnp.frexp(X)[1]),
    "integers": lambda: (K + K, K * K, jnp.maximum(K, 1), K.astype(bool) & (K > 1) | (K < -2), ~K),
    "functions": lambda: (
        jnp.exp(X),
        jnp.exp2(X),
        jnp.log2(jnp.abs(X)),
        jnp.log1p(X**2),
        jnp.tanh(X),
        lax.rsqrt(X**2),
        jnp.sin(X),
    ),
    "rounding": lambda: (
        jnp.floor(X),
        jnp.ceil(X),
        jnp.sign(X),
        jnp.isfinite(X / 0),
        X.astype(int),
    ),
    "not a number": lambda: (jnp.maximum(X / 0, jnp.nan), jnp.sort(jnp.log(X)), jnp.argmax(0 / X)),
    "reductions": lambda: (X.sum(0), X.max(), X.min(1), (X > 0).any(0), (X > 0).all(1), K.prod()),
    "cumulative": lambda: (jnp.cumsum(X, 0), jnp.cumsum(X, 1)[::-1], lax.cummax(X, reverse=True)),
    "places": lambda: (X.argmax(0), X.argmin(1), jnp.sort(X, 0), jnp.sort(K, 1)),
    "shapes": lambda: (
        X.T,
        X.reshape(2, 6),
        X[1:, ::2],
        X[:, None],
        jnp.stack([X, Y], 1),
        *jnp.unstack(X, axis=1),
    ),
    "more shapes": lambda: (
        jnp.pad(X, ((1, 2), (0, 1))),
        *jnp.split(X, [1, 3]),
        jnp.arange(5) + K[0, 0],
    ),
    "choice": lambda: (jnp.where(X > Y, X, Y), lax.dynamic_slice(X, (K[0, 0], 1), (2, 2))),
    "products": lambda: (X @ Y.T, jnp.einsum("ij,ik->jk", X, Y), jnp.einsum("ij,ij->i", X, Y)),
    "tensors": lambda: (jnp.einsum("ij,ikl,jm->klm", X, X[:, :, None] * Y[:, None], Y.T),),
    "reading": lambda: (X[K[:, 0]], X[:, K[0]], X[K[:, 0] % 4, K[:, 1] % 3], jnp.take(X, K[0], 0)),
    "reading each": lambda: (jnp.take_along_axis(X, K % 5, 0), jnp.take_along_axis(X, K % 3, 1)),
    "reading under vmap": lambda: (
        jax.vmap(lambda x, k: lax.dynamic_slice(x, (k,), (2,)))(X, K[:, 0]),
    ),
    "writing": lambda: (
        X.at[1].set(7.0),
        X.at[:, 2].add(Y[:, 0]),
        X.at[K[:, 0]].add(Y),
        K.at[9, 9].set(1),
    ),
    "factors": lambda: (
        jnp.linalg.cholesky(X.T @ X),
        jnp.linalg.cholesky(jnp.stack([X.T @ X, -X.T @ X])),
    ),
    "triangles": lambda: tuple(
        lax.linalg.triangular_solve(
            X[:3] + 4 * np.eye(3, dtype=np.float32),
            Y[:3],
            left_side=left,
            lower=lower,
            transpose_a=turned,
        )
        for left in (True, False)
        for lower in (True, False)
        for turned in (True, False)
    ),
    "loops": lambda: (
        *lax.scan(lambda c, x: (c + x, c * x), X[0], X),
        *lax.scan(lambda c, x: (c - x, c.max()), X[0], X, reverse=True),
        lax.while_loop(lambda c: c.sum() < 9.0, lambda c: c + jnp.abs(Y[0]), X[0]),
        lax.fori_loop(0, K[0, 0] + 5, lambda i, c: c * 0.5 + i, X),
    ),
    "branches": lambda: tuple(
        lax.switch(i, [lambda x: x, lambda x: x.sum() + x, lambda x: -x], X) for i in (-1, 1, 5)
    ),
    "derivatives": lambda: (
        jax.grad(lambda x: jnp.square(jax.nn.softmax(x @ Y.T)).sum())(X),
        jax.grad(lambda x: jax.nn.relu(jnp.sort(x, 0) @ Y.T).sum())(X),
    ),
}


@pytest.mark.filterwarnings("ignore:scatter inputs have incompatible types")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations_are_those_of_jax(name):
    """Traced with arrays of JAX in place of those that the functions name."""

    def function(*given):
        before = {each: globals()[each] for each in "XYK"}
        globals().update(zip("XYK", given, strict=True))
        try:
            return FUNCTIONS[name]()
        finally:
            globals().update(before)

    want = jax.jit(function)(X, Y, K)
    text = numpy_program(function, X, Y, K)
    for known in range(4):
        got = load_program(text, *(X, Y, K)[:known])(*(X, Y, K)[known:])
        for ours, theirs in zip(got, jax.tree.leaves(want), strict=True):
            assert np.shape(ours) == theirs.shape and ours.dtype == theirs.dtype
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", zoo.LEARNERS)
def test_adapt_and_predict_of_every_learner_leave_jax(name, make_task):
    learner = zoo.LEARNERS[name]
    task = zoo.draw_sinusoid(3) if "regression" in name else make_task(3)
    theta = learner.init(jax.random.key(0), task)

    def run(theta, support, x, description):
        w = learner.adapt(theta, support, description=description)
        return learner.predict(theta, w, x)

    args = theta, task.support, task.query.x, task.description
    (z,) = load_program(numpy_program(run, *args))(*map(np.asarray, jax.tree.leaves(args)))
    np.testing.assert_allclose(z, jax.jit(run)(*args), rtol=1e-3, atol=1e-4)


def test_what_numpy_has_no_counterpart_for_is_refused_by_name():
    with pytest.raises(NotImplementedError, match="conv_general_dilated"):
        numpy_program(
            lambda x, k: lax.conv(x, k, (1,), "SAME"), jnp.ones((1, 2, 5)), jnp.ones((3, 2, 1))
        )
    with pytest.raises(NotImplementedError, match="bfloat16"):
        numpy_program(jnp.exp, jnp.ones(3, jnp.bfloat16))
    with pytest.raises(NotImplementedError, match="key"):
        numpy_program(jax.random.normal, jax.random.key(0))


def test_what_a_program_was_not_traced_for_is_refused():
    run = load_program(numpy_program(lambda x, k: (x + k.astype(x.dtype), jnp.arange(3)), X, K))
    with pytest.raises(ValueError, match=r"shape \[4, 3\], got \(3,\)"):
        run(X[0], K)
    with pytest.raises(ValueError, match="takes 2 more arrays, got 1"):
        run(X)
    with pytest.raises(TypeError, match="same_kind"):
        run(X, Y)
    assert run(X.astype(float), K)[0].dtype == np.float32


def test_who_writes_into_a_result_changes_no_constant():
    run = load_program(numpy_program(lambda x: (x, jnp.arange(3)), X))
    run(X)[1][:] = 7
    assert run(X)[1].tolist() == [0, 1, 2]


def test_a_program_of_another_version_is_refused():
    text = numpy_program(jnp.exp, jnp.ones(3)).replace('"version":1', '"version":99')
    with pytest.raises(ValueError, match="version 99 of its format"):
        load_program(text)
