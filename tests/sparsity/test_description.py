"""`w` as a message: numbers of few bits."""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxmeta import sparsity


@pytest.mark.parametrize(
    ("bits", "dtype"), [(8, ml_dtypes.float8_e5m2), (16, np.float16)], ids=["float8", "float16"]
)
def test_numbers_of_few_bits_are_those_of_the_format(bits, dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(size=2000) * np.exp(rng.uniform(-12, 10, 2000))
    x = np.concatenate([x, [0.0, -0.0, 1e-9, 3e4]]).astype(np.float32)
    got = np.asarray(sparsity.rounded(jnp.asarray(x), bits))
    np.testing.assert_array_equal(got, x.astype(dtype).astype(np.float32))


def test_there_are_no_more_numbers_than_bits_name():
    x = jnp.asarray(np.random.default_rng(0).normal(size=200_000) * 10, jnp.float32)
    for bits in (7, 8, 10):
        assert len(np.unique(sparsity.rounded(x, bits))) <= 2**bits
    assert float(sparsity.rounded(jnp.array([1e30]))[0]) == 57344.0
    assert float(sparsity.rounded(jnp.array([-jnp.inf]))[0]) == -57344.0


def test_what_is_no_parameter_stays():
    w = {"kernel": jnp.array([0.3]), "present": jnp.array([3])}
    assert int(sparsity.rounded(w)["present"][0]) == 3
    for bits in (6, 17):
        with pytest.raises(ValueError, match="7 to 16"):
            sparsity.rounded(w, bits)
