"""Environments of gymnax, as families of tasks."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxmeta._validation import check_positive
from jaxmeta.acting._environments import Environment
from jaxmeta.types import Array, PyTree


def from_gymnax(env: Any, draw: Callable[[Array], PyTree], *, num_steps: int) -> Environment:
    """A family of environments from one of gymnax, or of its interface.

    A trial is `num_steps` steps over as many episodes as they hold: gymnax starts the next one by
    itself, and what the learner knows goes on. What is seen `[P]` is the observation, flattened,
    and 1 where an episode begins.

    Args:
      env: has `num_actions`, `reset(key, params) -> (obs, state)` and
        `step(key, state, action, params) -> (obs, state, reward, done, info)`, or `terminated` and
        `truncated` in place of `done`.
      draw: `key -> params`: what a task is, such as
        `lambda key: env.default_params.replace(length=jax.random.uniform(key, minval=0.3))`.
      num_steps: steps of a trial.

    Raises:
      ValueError: for a number of steps below one.

    References:
      Lange, gymnax: a JAX-based reinforcement learning environment library (2022),
      github.com/RobertTLange/gymnax.
    """
    check_positive(num_steps=num_steps)

    def seen(obs: Array, begins: Array) -> Array:
        flat = jnp.asarray(obs, jnp.float32).reshape(-1)
        return jnp.append(flat, jnp.asarray(begins, jnp.float32))

    def reset(key: Array, params: PyTree) -> tuple[Array, PyTree]:
        obs, state = env.reset(key, params)
        return seen(obs, jnp.ones(())), state

    def step(
        key: Array, state: PyTree, action: Array, params: PyTree
    ) -> tuple[Array, PyTree, Array, Array]:
        # Since version 1 `done` is two flags, terminated and truncated.
        obs, state, reward, *ended, _ = env.step(key, state, action, params)
        begins = jnp.stack([jnp.asarray(flag, bool) for flag in ended]).any()
        return seen(obs, begins), state, jnp.asarray(reward, jnp.float32), jnp.zeros((), bool)

    def actions(params: PyTree) -> Array:
        return jnp.ones(env.num_actions)

    return Environment(draw, reset, step, actions, lambda params: jnp.zeros(0), num_steps)
