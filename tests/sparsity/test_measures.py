"""Measures of what is in `w`, counted by hand."""

import jax.numpy as jnp
import numpy as np

from jaxmeta import sparsity


def test_live_inputs_units_and_multiply_adds_by_hand():
    kernel = jnp.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, -2.0, 3.0], [0.0, 0.0, 0.0]])
    w = {"kernel": kernel, "bias": jnp.ones(3), "y": jnp.ones((2, 2), int)}
    assert (sparsity.live_inputs(w), sparsity.live_units(w)) == (2, 2)
    assert sparsity.multiply_adds(w) == 3
    # A convolution's kernel [height, width, in, out]: an input lives if it is read at any place.
    images = jnp.zeros((3, 3, 2, 4)).at[1, 2, 0, 3].set(1.0).at[0, 0, 0, 1].set(1.0)
    assert (sparsity.live_inputs(images), sparsity.live_units(images)) == (1, 2)
    assert sparsity.multiply_adds(images) == 2


def test_nonzeros_size_and_density_by_hand():
    w = {
        "a": jnp.array([[0.0, 1.0], [0.0, -2.0]]),
        "b": jnp.array([0.0, 1e-30]),
        "y": jnp.ones(9, int),
    }
    assert (sparsity.nonzeros(w), sparsity.size(w)) == (3, 6)
    np.testing.assert_allclose(sparsity.density(w), 0.5)


def test_num_bytes_is_the_smaller_of_dense_and_sparse_by_leaf():
    w = {
        "sparse": jnp.zeros(100).at[:3].set(1.0),  # 3 * (4 + 4) = 24 < 400
        "dense": jnp.ones(10),  # 40 < 10 * 8
        "half": jnp.zeros(10, jnp.bfloat16).at[0].set(1.0),  # 2 + 4 = 6 < 20
        "labels": jnp.arange(50),
    }
    assert sparsity.num_bytes(w) == 24 + 40 + 6


def test_measures_of_a_learner_without_parameters_are_zero():
    w = {"labels": jnp.arange(3)}
    assert (sparsity.nonzeros(w), sparsity.density(w), sparsity.num_bytes(w)) == (0, 0.0, 0)
