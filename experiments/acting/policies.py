"""What has no learner: policies for Bernoulli bandits, by the wins and losses of each arm.

Each is an index: the arm with the highest is pulled. All know that means are uniform in 0..1.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.acting import Environment
from jaxmeta.types import Array

Index = Callable[[Array, Array, Array, Array], Array]
"""`(key, wins [C], losses [C], t []) -> [C]`: the index of each arm at pull t, from 0."""


def greedy(key: Array, wins: Array, losses: Array, t: Array) -> Array:
    """The mean of the posterior; ties by chance."""
    return _mean(wins, losses) + 1e-6 * jax.random.uniform(key, wins.shape)


def at_random(key: Array, wins: Array, losses: Array, t: Array) -> Array:
    """Nothing."""
    return jax.random.uniform(key, wins.shape)


def thompson(key: Array, wins: Array, losses: Array, t: Array) -> Array:
    """A draw of the posterior (Thompson, 1933)."""
    return jax.random.beta(key, wins + 1.0, losses + 1.0)


def optimistic_thompson(key: Array, wins: Array, losses: Array, t: Array) -> Array:
    """A draw, or the mean if that is higher (May et al., 2012)."""
    return jnp.maximum(thompson(key, wins, losses, t), _mean(wins, losses))


def ucb1(weight: float, key: Array, wins: Array, losses: Array, t: Array) -> Array:
    """UCB1 (Auer et al., 2002) with a tuned weight, and the prior as a first pull of each arm."""
    bonus = jnp.sqrt(2.0 * jnp.log(t + 2.0) / (wins + losses + 1.0))
    return _mean(wins, losses) + weight * bonus + 1e-6 * jax.random.uniform(key, wins.shape)


def posterior_bonus(weight: float, key: Array, wins: Array, losses: Array, t: Array) -> Array:
    """The mean of the posterior and a tuned number of its standard deviations."""
    a, b = wins + 1.0, losses + 1.0
    std = jnp.sqrt(a * b / (jnp.square(a + b) * (a + b + 1.0)))
    return _mean(wins, losses) + weight * std + 1e-6 * jax.random.uniform(key, wins.shape)


def _mean(wins: Array, losses: Array) -> Array:
    return (wins + 1.0) / (wins + losses + 2.0)


FIXED: dict[str, Index] = {
    "random": at_random,
    "greedy": greedy,
    "thompson": thompson,
    "optimistic_thompson": optimistic_thompson,
}
TUNED: dict[str, Callable[..., Array]] = {"ucb1": ucb1, "posterior_bonus": posterior_bonus}
WEIGHTS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)


def rewards_of(index: Index, environment: Environment, tasks: Array, keys: Array) -> np.ndarray:
    """Rewards `[T, N]` of a policy on tasks drawn by `environment.draw`."""

    def trial(params, key: Array) -> Array:
        _, state = environment.reset(key, params)
        real = environment.actions(params) > 0

        def step(carry, inputs):
            wins, losses, state, going = carry
            t, key = inputs
            index_key, step_key = jax.random.split(key)
            action = jnp.argmax(jnp.where(real, index(index_key, wins, losses, t), -jnp.inf))
            _, state, reward, done = environment.step(step_key, state, action, params)
            reward = reward * going
            wins = wins.at[action].add(reward)
            losses = losses.at[action].add(going - reward)
            return (wins, losses, state, going * (1.0 - done)), reward

        zeros = jnp.zeros(len(real))
        inputs = jnp.arange(environment.num_steps), jax.random.split(key, environment.num_steps)
        return jax.lax.scan(step, (zeros, zeros, state, jnp.ones(())), inputs)[1]

    return np.asarray(jax.jit(jax.vmap(trial))(tasks, keys))


def tuned(name: str, environment: Environment, tasks: Array, keys: Array) -> Index:
    """The policy with the weight of its bonus that earns most on these tasks."""
    found = [partial(TUNED[name], weight) for weight in WEIGHTS]
    earned = [rewards_of(index, environment, tasks, keys).sum(axis=1).mean() for index in found]
    return found[int(np.argmax(earned))]
