"""A long short-term memory that skips padded rows, for full-context embeddings."""

import jax
import jax.numpy as jnp

from jaxmeta.networks._mlp import dense, dense_init
from jaxmeta.types import Array, PyTree

Carry = tuple[Array, Array]


def lstm_init(key: Array, in_size: int, hidden_size: int) -> PyTree:
    """Parameters of one cell: the four gates as one dense layer over input and hidden state."""
    return dense_init(key, in_size + hidden_size, 4 * hidden_size, gain=1.0)


def lstm(params: PyTree, x: Array, carry: Carry) -> Carry:
    """One step: `x [..., in]` and carry `(hidden, memory) [..., H]` to the next carry."""
    hidden, memory = carry
    gates = dense(params, jnp.concatenate([x, hidden], axis=-1))
    write, forget, read, value = jnp.split(gates, 4, axis=-1)
    # The forget gate starts open: the bias of 1 of Jozefowicz et al., 2015.
    memory = jax.nn.sigmoid(forget + 1.0) * memory + jax.nn.sigmoid(write) * jnp.tanh(value)
    return jax.nn.sigmoid(read) * jnp.tanh(memory), memory


def masked_scan(params: PyTree, x: Array, mask: Array) -> Array:
    """Hidden states `[N, H]` after each row of `x [N, in]`; padded rows leave the state alone."""
    dtype = jnp.result_type(x, params["bias"])
    zeros = jnp.zeros(params["bias"].shape[0] // 4, dtype)

    def step(carry: Carry, row: tuple[Array, Array]) -> tuple[Carry, Array]:
        values, real = row
        moved = lstm(params, values, carry)
        carry = jax.tree.map(lambda new, old: jnp.where(real > 0, new, old), moved, carry)
        return carry, carry[0]

    return jax.lax.scan(step, (zeros, zeros), (x, mask))[1]
