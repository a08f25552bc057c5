"""Gradient descent on a sinusoid, written out: what `fine_tune` and its derivatives are held to."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta import losses, meta_objective, networks
from jaxmeta.learners._learned_init import learned_init
from jaxmeta.transforms import fine_tune

KEY = jax.random.key(0)
START = learned_init(networks.mlp([6], activation=jnp.tanh))
TUNED = functools.partial(fine_tune, START, losses.mean_squared_error)


def meta_gradient(learner, theta, task, key=None):
    """The gradient of the query loss after adaptation, as one vector."""
    loss_fn = meta_objective(learner, losses.mean_squared_error)
    grad = jax.jit(jax.grad(lambda theta: loss_fn(theta, task, key)[0]))(theta)
    return jax.flatten_util.ravel_pytree(grad)[0]


def inner_gradient(w, task):
    """Gradient of the support loss in body and head, written out."""

    def loss(body, head):
        z = START.predict(None, w._replace(body=body, head=head), task.support.x)
        return losses.mean_squared_error(z, task.support.y, task.support.mask)

    return jax.grad(loss, argnums=(0, 1))(w.body, w.head)


def descend_by_hand(theta, task, num_steps, rate, constant=lambda k: False):
    """Gradient descent as a Python loop; the gradients of the steps that `constant` names are."""
    w = START.adapt(theta, task.support)
    for k in range(num_steps):
        grad = inner_gradient(w, task)
        grad = jax.lax.stop_gradient(grad) if constant(k) else grad
        body, head = jax.tree.map(lambda p, g: p - rate * g, (w.body, w.head), grad)
        w = w._replace(body=body, head=head)
    return w


def gradient_by_hand(theta, task, *args, **options):
    def loss(theta):
        z = START.predict(theta, descend_by_hand(theta, task, *args, **options), task.query.x)
        return losses.mean_squared_error(z, task.query.y, task.query.mask)

    return jax.flatten_util.ravel_pytree(jax.jit(jax.grad(loss))(theta))[0]


def assert_close(got, want, rtol=1e-10):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * np.abs(want).max())
