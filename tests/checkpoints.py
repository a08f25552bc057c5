"""A state to save, and what it means that it came back."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxmeta import learners, networks, training
from jaxmeta import tasks as families

CONFIG = {"learner": "prototypes", "lr": 0.05, "sizes": [3]}
SAMPLER = families.two_tasks(shots=4, queries=3, features=2)
ADAM = optax.adam(0.05)


def start(size=3, seed=0):
    learner = learners.prototypes(networks.mlp([size]), ways=2)
    return training.init(learner, ADAM, jax.random.key(seed), SAMPLER(jax.random.key(0)))


def assert_same(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.dtype == b.dtype
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)
