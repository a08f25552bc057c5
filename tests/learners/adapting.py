"""A small network for the gradient learners, what they adapt it to, and trees compared."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta import networks

KEY = jax.random.key(0)
NET = networks.mlp([6], activation=jnp.tanh)


def adapted(learner, theta, task):
    return jax.jit(learner.adapt)(theta, task.support)


def assert_trees_close(got, want, rtol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6), got, want)
