"""`w` as a message: its values in few bits, and how many bits name it."""

import math

import jax.numpy as jnp

from jaxmeta._tree import map_parameters
from jaxmeta.sparsity._measures import nonzeros, size
from jaxmeta.types import Array, PyTree

_LEAST_BITS, _EXPONENTS = 7, (-14, 15)  # a sign and five bits of exponent, as in float16


def description_bits(w: PyTree, bits: int = 8) -> float:
    """The bits that name one `w` among all: which k of W parameters are not zero, and their values.

        log2 C(W, k) + k bits + 2 log2(k + 1)

    A code that is fixed before the data, so `evaluation.occam_bound` holds for what it says, which
    is `rounded(w, bits)`. Outside of compiled code.

    Args:
      w: task parameters.
      bits: of each value.
    """
    count, kept = size(w), int(nonzeros(w))
    choices = math.lgamma(count + 1) - math.lgamma(kept + 1) - math.lgamma(count - kept + 1)
    return choices / math.log(2) + kept * bits + 2 * math.log2(kept + 1)


def rounded(w: PyTree, bits: int = 8) -> PyTree:
    """`w` with each parameter as a floating-point number of so many bits.

    A sign, five bits of exponent, and the rest for the digits: 8 bits are float8 (e5m2) without
    infinities, 16 are float16. What is larger than all of these numbers becomes the largest.

    Args:
      w: task parameters.
      bits: of each value, 7 to 16.

    Raises:
      ValueError: for other bits.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmeta import sparsity
      >>> print(sparsity.rounded(jnp.array([0.0, 0.3, -1.0, 7.7])))
      [ 0.      0.3125 -1.      8.    ]
    """
    if not _LEAST_BITS <= bits <= 16:
        raise ValueError(f"rounded knows numbers of {_LEAST_BITS} to 16 bits, got {bits}.")
    digits = bits - _LEAST_BITS + 1
    least, most = _EXPONENTS

    def of_leaf(leaf: Array) -> Array:
        # frexp has its mantissa in [1/2, 1): one more than the exponent of 1.xx.
        _, exponent = jnp.frexp(jnp.abs(leaf))
        unit = jnp.ldexp(jnp.ones_like(leaf), jnp.maximum(exponent - 1, least) - digits)
        largest = (2.0 - 2.0**-digits) * 2.0**most
        return jnp.clip(jnp.round(leaf / unit) * unit, -largest, largest)

    return map_parameters(of_leaf, w)
