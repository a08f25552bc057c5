"""Random numbers from two pools that are drawn at once."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.types import Array

NEVER = -1e30
"""The logit of what is not there: no random number brings it back."""


class Draws(NamedTuple):
    """Independent numbers, handed out by shape.

    They come from two pools drawn at once: a program with sixty random generators in it compiles
    for minutes.
    """

    normal: Callable[..., Array]
    uniform: Callable[..., Array]


def draw_pools(key: Array, *, normal: int, uniform: int) -> Draws:
    """Pools of so many numbers."""
    normal_key, uniform_key = jax.random.split(key)
    normals = jax.random.normal(normal_key, (normal,))
    uniforms = jax.random.uniform(uniform_key, (uniform,))
    # Without the barrier each of the slices would be computed from the key again.
    return Draws(*map(_dispenser, jax.lax.optimization_barrier((normals, uniforms))))


def _dispenser(pool: Array) -> Callable[..., Array]:
    start = 0

    def take(*shape: int) -> Array:
        nonlocal start
        size = math.prod(shape)
        start += size
        if start > len(pool):
            raise AssertionError("The pool of random numbers is too small.")
        return pool[start - size : start].reshape(shape)

    return take


def choose(uniform: Array, logits: Array) -> Array:
    """Classes by `logits [C]`, from `uniform [..., C]`."""
    return jnp.argmax(jnp.broadcast_to(logits, uniform.shape) + gumbel(uniform), axis=-1)


def gumbel(uniform: Array) -> Array:
    """Gumbel noise from uniform numbers."""
    return -jnp.log(-jnp.log(jnp.clip(uniform, 1e-12, 1.0 - 1e-7)))


def log_uniform(uniform: Array, low: float, high: float) -> Array:
    """Numbers in [low, high) whose logarithms are uniform."""
    return low * (high / low) ** uniform


def unit(x: Array) -> Array:
    """Columns of `x [N, ...]` at mean zero and variance one."""
    return (x - x.mean(axis=0, keepdims=True)) / (x.std(axis=0, keepdims=True) + 1e-6)


def as_number(event: Array) -> Array:
    """1 where it happened and 0 where not."""
    return event.astype(jnp.float32)
