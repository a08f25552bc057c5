"""Proximal policy optimisation from scratch: what a goal takes without having met others."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxmeta import MetaLearner
from jaxmeta.acting import Environment, Trial, play
from jaxmeta.types import Array

EPOCHS, CLIP, DECAY, DISCOUNT, ENTROPY = 4, 0.2, 0.95, 0.99, 0.01


def table(num_states: int, num_actions: int) -> dict[str, Array]:
    """theta of a `table_policy` that acts at random."""
    return {"logits": jnp.zeros((num_states, num_actions)), "values": jnp.zeros(num_states)}


def table_policy(num_states: int, num_actions: int) -> MetaLearner:
    """A logit for each action in each state, and a value of each; it remembers nothing."""

    def init(key: Array, task: Any) -> dict[str, Array]:
        del key, task
        return table(num_states, num_actions)

    def adapt(theta: Any, support: Any, *, description: Any = None, key: Any = None) -> Array:
        del theta, support, description, key
        return jnp.zeros(0)

    def predict(theta: dict[str, Array], w: Array, x: Array) -> Array:
        del w
        return x[:, :num_states] @ theta["logits"]

    return MetaLearner(init, adapt, predict, lambda theta, w, examples: w)


def ppo(
    environment: Environment,
    num_states: int,
    params: Any,
    key: Array,
    *,
    iterations: int,
    rate: float,
) -> dict[str, Array]:
    """theta of a `table_policy` after some trials in one task, with a few steps of Adam each.

    Args:
      environment: whose observations begin with a state, one-hot, and the share of its episode that
        is left; a trial is a batch of episodes.
      num_states: number of states.
      params: the task.
      key: of all chance.
      iterations: trials.
      rate: learning rate.

    References:
      Schulman et al., Proximal policy optimization algorithms, arXiv:1707.06347.
    """
    num_actions = len(environment.actions(params))
    policy = table_policy(num_states, num_actions)
    tx = optax.adam(rate)

    def improve(carry: tuple[Any, Any], key: Array) -> tuple[tuple[Any, Any], None]:
        theta, opt_state = carry
        trial = play(policy, environment, theta, params, key)
        loss = _clipped(trial, theta, num_states)

        def epoch(carry: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], None]:
            theta, opt_state = carry
            slope = jax.grad(loss)(theta)
            with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and numbers
                updates, opt_state = tx.update(slope, opt_state, theta)
            return (optax.apply_updates(theta, updates), opt_state), None

        return jax.lax.scan(epoch, (theta, opt_state), None, length=EPOCHS)[0], None

    theta = table(num_states, num_actions)
    keys = jax.random.split(key, iterations)
    return jax.lax.scan(improve, (theta, tx.init(theta)), keys)[0][0]


def _clipped(
    trial: Trial, theta: dict[str, Array], num_states: int
) -> Callable[[dict[str, Array]], Array]:
    """The clipped objective of the steps of a trial that theta played."""
    states, chosen = trial.rows[:, :num_states], trial.actions[:, None]
    advantages, returns = _advantages(trial, states @ theta["values"], trial.rows[:, num_states])
    before = jnp.take_along_axis(jax.nn.log_softmax(trial.logits), chosen, axis=1)[:, 0]
    scale = jnp.maximum(trial.mask.sum(), 1.0)
    mean = (trial.mask * advantages).sum() / scale
    spread = jnp.sqrt((trial.mask * jnp.square(advantages - mean)).sum() / scale)
    advantages = (advantages - mean) / (spread + 1e-6)

    def loss(theta: dict[str, Array]) -> Array:
        chance = jax.nn.log_softmax(states @ theta["logits"])
        ratio = jnp.exp(jnp.take_along_axis(chance, chosen, axis=1)[:, 0] - before)
        held = jnp.clip(ratio, 1.0 - CLIP, 1.0 + CLIP)
        gain = jnp.minimum(ratio * advantages, held * advantages)
        unsure = -(jnp.exp(chance) * chance).sum(axis=1)
        miss = jnp.square(states @ theta["values"] - returns)
        return -(trial.mask * (gain + ENTROPY * unsure - 0.5 * miss)).sum() / scale

    return loss


def _advantages(trial: Trial, values: Array, left: Array) -> tuple[Array, Array]:
    """Generalised advantages and returns `[N]`, within episodes; `left` is 1 where one begins."""
    goes_on = jnp.append(trial.mask[1:] * (left[1:] < 1.0).astype(left.dtype), 0.0)
    after = goes_on * jnp.append(values[1:], 0.0)
    surprise = trial.rewards + DISCOUNT * after - values

    def back(later: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        error, same = now
        advantage = error + same * DISCOUNT * DECAY * later
        return advantage, advantage

    _, found = jax.lax.scan(back, jnp.zeros(()), (surprise, goes_on), reverse=True)
    return found, found + values
