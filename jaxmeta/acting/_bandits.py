"""Bandits: arms that pay by chance, a few pulls, and a prior over arms that can be learned."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta._validation import check_positive
from jaxmeta.acting._environments import Environment
from jaxmeta.types import Array


class Bandit(NamedTuple):
    """What a task is.

    Attributes:
      means: mean reward of each arm `[C]`.
      noise: the chance of each pull of each arm `[C, N]`, drawn in advance: whoever plays the same
        task gets the same from the same pulls of an arm, so that policies are compared in pairs.
      arms: how many arms there are, the first ones `[]`.
      pulls: how many pulls a trial has `[]`.
    """

    means: Array
    noise: Array
    arms: Array
    pulls: Array


class BanditState(NamedTuple):
    """How often each arm was pulled, int32 `[C]`."""

    counts: Array


def bernoulli_bandit(arms: int | tuple[int, int], pulls: int | tuple[int, int]) -> Environment:
    """Arms that pay one or nothing, with probabilities drawn uniformly from 0..1.

    What is seen `[2]`: the share of the pulls that is left, and the logarithm of their number.

    Args:
      arms: k, or a range `(least, most)` from which each task draws its own.
      pulls: n, or a range likewise.

    Raises:
      ValueError: for a number below one, or a range without numbers.

    Example:
      >>> import jax
      >>> from jaxmeta import acting
      >>> bandit = acting.bernoulli_bandit(arms=5, pulls=10)
      >>> params = bandit.draw(jax.random.key(0))
      >>> obs, state = bandit.reset(jax.random.key(1), params)
      >>> obs, state, reward, done = bandit.step(jax.random.key(2), state, 3, params)
      >>> float(reward) in (0.0, 1.0), bool(done), obs.shape
      (True, False, (2,))

    References:
      Duan et al., RL^2, arXiv:1611.02779; Mishra et al., A simple neural attentive meta-learner,
      arXiv:1707.03141, table 3.
    """

    def pay(mean: Array, noise: Array) -> Array:
        return (noise < mean).astype(jnp.float32)

    return _bandit(arms, pulls, jax.random.uniform, jax.random.uniform, pay)


def gaussian_bandit(arms: int | tuple[int, int], pulls: int | tuple[int, int]) -> Environment:
    """Arms that pay N(mean, 1), with means drawn from N(0, 1); otherwise as `bernoulli_bandit`.

    Args:
      arms: k, or a range.
      pulls: n, or a range.

    Raises:
      ValueError: as `bernoulli_bandit` does.
    """
    return _bandit(arms, pulls, jax.random.normal, jax.random.normal, lambda mean, e: mean + e)


def _bandit(
    arms: int | tuple[int, int],
    pulls: int | tuple[int, int],
    draw_means: Callable[..., Array],
    draw_noise: Callable[..., Array],
    pay: Callable[[Array, Array], Array],
) -> Environment:
    """A bandit whose arm of mean m pays `pay(m, noise)`."""
    (least_arms, most_arms), (least_pulls, most_pulls) = _range(arms), _range(pulls)
    check_positive(arms=least_arms, pulls=least_pulls)
    if least_arms > most_arms or least_pulls > most_pulls:
        raise ValueError(f"A range is (least, most), got arms={arms} and pulls={pulls}.")

    def draw(key: Array) -> Bandit:
        mean_key, noise_key, arm_key, pull_key = jax.random.split(key, 4)
        return Bandit(
            means=draw_means(mean_key, (most_arms,)),
            noise=draw_noise(noise_key, (most_arms, most_pulls)),
            arms=jax.random.randint(arm_key, (), least_arms, most_arms + 1),
            pulls=jax.random.randint(pull_key, (), least_pulls, most_pulls + 1),
        )

    def reset(key: Array, params: Bandit) -> tuple[Array, BanditState]:
        state = BanditState(jnp.zeros(most_arms, jnp.int32))
        return _seen(state, params), state

    def step(
        key: Array, state: BanditState, action: Array, params: Bandit
    ) -> tuple[Array, BanditState, Array, Array]:
        reward = pay(params.means[action], params.noise[action, state.counts[action]])
        state = BanditState(state.counts.at[action].add(1))
        return _seen(state, params), state, reward, state.counts.sum() >= params.pulls

    def expected_reward(state: BanditState, action: Array, params: Bandit) -> Array:
        return params.means[action]

    return Environment(
        draw, reset, step, _actions, _hints, most_pulls, expected_reward, _best_action
    )


def _range(given: int | tuple[int, int]) -> tuple[int, int]:
    return (given, given) if isinstance(given, int) else given


def _seen(state: BanditState, params: Bandit) -> Array:
    """The share of the pulls that is left, and the logarithm of their number."""
    pulls = params.pulls.astype(jnp.float32)
    left = jnp.maximum(pulls - state.counts.sum().astype(pulls.dtype), 0.0)
    return jnp.stack([left / pulls, jnp.log1p(left) / 4.0])


def _actions(params: Bandit) -> Array:
    return (jnp.arange(len(params.means)) < params.arms).astype(jnp.float32)


def _best_action(state: BanditState, params: Bandit) -> Array:
    return jnp.argmax(jnp.where(_actions(params) > 0, params.means, -jnp.inf))


def _hints(params: Bandit) -> Array:
    """The best mean, the second best, and the mean of all arms."""
    real = _actions(params)
    ranked = jnp.sort(jnp.where(real > 0, params.means, -jnp.inf))[::-1]
    second = jnp.where(params.arms > 1, ranked[min(1, len(ranked) - 1)], ranked[0])
    return jnp.stack([ranked[0], second, (real * params.means).sum() / real.sum()])
