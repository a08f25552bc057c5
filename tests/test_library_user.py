"""The library from outside: own network, own optimisation loop, the public face alone."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmeta
from jaxmeta import Examples, MetaLearner, Task, learners, losses, meta_objective, sparsity, tasks

KEY = jax.random.key(0)


class Encoder(nn.Module):
    """A network of the user's own; linen modules fit as they are."""

    size: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.size)(nn.tanh(nn.Dense(8)(x)))


def planes(key):
    """A sampler of the user's own: two classes on the two sides of a new plane for each task."""
    plane_key, x_key = jax.random.split(key)
    half = jax.random.normal(x_key, (8, 4)) * jnp.array([[1.0, 1.0, 3.0, 3.0]])
    # Rows and their mirror images: both classes occur in every support set.
    x = jnp.concatenate([half[:5], -half[:5], half[5:], -half[5:]])
    y = (x[:, :2] @ jax.random.normal(plane_key, (2,)) > 0).astype(jnp.int32)
    return Task(Examples(x[:10], y[:10], jnp.ones(10)), Examples(x[10:], y[10:], jnp.ones(6)))


def train(learner, sampler, *, penalty=None, eta=0.0, steps=200, rate=0.1):
    """Plain stochastic gradient descent with jax.grad, jax.vmap and jax.lax.scan."""
    loss_fn = meta_objective(learner, losses.cross_entropy, penalty, eta=eta)
    theta = learner.init(KEY, sampler(KEY))

    def mean_loss(theta, key):
        batch = jax.vmap(sampler)(jax.random.split(key, 8))
        loss, metrics = jax.vmap(lambda task: loss_fn(theta, task, None))(batch)
        return loss.mean(), jax.tree.map(jnp.mean, metrics)

    def body(theta, key):
        grad, metrics = jax.grad(mean_loss, has_aux=True)(theta, key)
        return jax.tree.map(lambda p, g: p - rate * g, theta, grad), metrics

    return jax.jit(lambda theta: jax.lax.scan(body, theta, jax.random.split(KEY, steps)))(theta)


@pytest.mark.parametrize(
    "build",
    [lambda net: learners.matching(net, ways=2), lambda net: learners.prototypes(net, ways=2)],
)
def test_the_loss_falls_in_a_loop_of_the_users_own(build):
    learner = build(Encoder(6))
    theta, metrics = train(learner, planes)
    assert metrics["loss"][-30:].mean() < 0.9 * metrics["loss"][:30].mean()
    before, after = (
        jaxmeta.evaluate(learner, params, planes, key=jax.random.key(9), num_tasks=200)
        for params in (learner.init(KEY, planes(KEY)), theta)
    )
    assert after.mean - after.ci95 > before.mean + before.ci95


def test_a_penalty_buys_smaller_task_parameters():
    learner = learners.hypernet(Encoder(4), out_size=2, hidden=(4,), context_size=8)
    sampler = tasks.two_tasks(shots=20, queries=20, features=3)
    _, free = train(learner, sampler, penalty=sparsity.l1, eta=0.0)
    _, taxed = train(learner, sampler, penalty=sparsity.l1, eta=0.02)
    assert taxed["penalty"][-1] < 0.7 * free["penalty"][-1]
    assert taxed["task_loss"][-30:].mean() < taxed["task_loss"][:30].mean()


def test_a_learner_of_the_users_own_is_three_functions():
    """Ridge regression in closed form, never seen by the library, with learned relevances."""

    def adapt(theta, support, *, description=None, key=None):
        x = support.x * theta["relevance"]
        targets = jax.nn.one_hot(support.y, 2) * support.mask[:, None]
        return jnp.linalg.solve(x.T @ x + jnp.eye(4), x.T @ targets)

    learner = MetaLearner(
        init=lambda key, task: {"relevance": jnp.full((1, 4), 0.3)},
        adapt=adapt,
        predict=lambda theta, w, x: 5.0 * (x * theta["relevance"]) @ w,
    )
    theta, metrics = train(learner, planes, rate=0.02)
    assert metrics["loss"][-30:].mean() < 0.95 * metrics["loss"][:30].mean()
    signal, noise = (
        np.abs(theta["relevance"][0, :2]).mean(),
        np.abs(theta["relevance"][0, 2:]).mean(),
    )
    assert signal > noise  # the last two features are large and say nothing


def test_the_public_face_is_whole_sorted_and_said_once():
    assert list(jaxmeta.__all__) == sorted(set(jaxmeta.__all__))
    assert all(hasattr(jaxmeta, name) for name in jaxmeta.__all__)
