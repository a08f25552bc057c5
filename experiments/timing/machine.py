"""How long a call takes, and what the machine can do at most."""

import os
import platform
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def seconds_of(call: Callable[[], Any], budget: float, most: int = 200) -> list[float]:
    """Durations of a call, repeated for `budget` seconds, twice at the least."""
    times: list[float] = []
    while len(times) < 2 or (sum(times) < budget and len(times) < most):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return times


def machine(dtype: Any) -> dict[str, Any]:
    """What the numbers were measured on, with its peaks: of a matrix product, and of a copy."""
    square = jnp.ones((2048, 2048), dtype)
    product = jax.jit(lambda a: a @ a)
    long = jnp.ones(2**26, jnp.float32)
    add = jax.jit(lambda a: a + 1.0)
    jax.block_until_ready((product(square), add(long)))
    return {
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "cpu": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "peak_gflops": 2 * 2048**3 / min(seconds_of(lambda: product(square), 1.0)) / 1e9,
        "gbytes_per_s": 2 * long.nbytes / min(seconds_of(lambda: add(long), 1.0)) / 1e9,
    }
