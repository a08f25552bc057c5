"""What is there: the device, its memory, and what it does at most in products and copies."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp

from experiments.devices.stages import Item, Row, Setting
from experiments.timing.machine import seconds_of

PRODUCTS = {
    "float32": ("float32", "highest"),
    "TF32": ("float32", "tensorfloat32"),
    "float32 as it comes": ("float32", None),
    "bfloat16": ("bfloat16", None),
}
"""Dtype of the operands and precision of the product; where there is no TF32 it is float32."""


def items(setting: Setting) -> Iterator[Item]:
    yield Item("device", device)
    side = 1024 if setting.small else 8192
    for name, (dtype, precision) in PRODUCTS.items():
        yield Item(f"product, {name}", partial(product, side, dtype, precision))
    yield Item("copy", partial(copy, 2**24 if setting.small else 2**28))


def device() -> Row:
    """What JAX says of it."""
    found = jax.devices()[0]
    memory = found.memory_stats() or {}
    return {
        "platform": found.platform,
        "kind": found.device_kind,
        "count": jax.device_count(),
        "memory_gb": memory.get("bytes_limit", 0) / 1e9 or None,
        "driver": found.client.platform_version.splitlines()[0],
        "jax": jax.__version__,
    }


def product(side: int, dtype: str, precision: str | None) -> Row:
    """The rate of a square matrix product."""
    square = jnp.ones((side, side), dtype)
    multiply = jax.jit(lambda a: jnp.matmul(a, a, precision=precision))
    jax.block_until_ready(multiply(square))
    return {"tflops": 2 * side**3 / min(seconds_of(lambda: multiply(square), 0.5)) / 1e12}


def copy(size: int) -> Row:
    """Bytes read and written a second."""
    numbers = jnp.ones(size, jnp.float32)
    add = jax.jit(lambda a: a + 1.0)
    jax.block_until_ready(add(numbers))
    return {"gbytes_per_s": 2 * numbers.nbytes / min(seconds_of(lambda: add(numbers), 0.5)) / 1e9}
