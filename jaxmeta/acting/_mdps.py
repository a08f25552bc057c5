"""Random Markov decision processes: transitions and rewards to be found out, episode by episode."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta._validation import check_positive
from jaxmeta.acting._environments import Environment, EpisodeState, first_state, next_state
from jaxmeta.types import Array


class MDP(NamedTuple):
    """What a task is.

    Attributes:
      transitions: the chance of each next state `[S, A, S]`.
      means: mean rewards `[S, A]`.
    """

    transitions: Array
    means: Array


def random_mdp(
    *, states: int = 10, actions: int = 5, episodes: int = 10, horizon: int = 10
) -> Environment:
    """Processes with transitions of Dirichlet(1, ..., 1) and rewards N(m, 1), m of N(1, 1).

    A trial is some episodes of the same process, each of `horizon` steps from state 0. What is seen
    `[S + H + 2]`: the state, one-hot; how many steps the episode still has, one-hot from 1 to H;
    the share of the episodes that comes after this one, and a quarter of the logarithm of 1 more
    than their number.

    Args:
      states: number of states S.
      actions: number of actions A.
      episodes: of a trial.
      horizon: steps H of an episode.

    Raises:
      ValueError: for a number below one.

    Example:
      >>> import jax
      >>> from jaxmeta import acting
      >>> process = acting.random_mdp(states=4, actions=2, episodes=3, horizon=5)
      >>> params = process.draw(jax.random.key(0))
      >>> obs, state = process.reset(jax.random.key(1), params)
      >>> obs, state, reward, done = process.step(jax.random.key(2), state, 1, params)
      >>> obs.shape, process.num_steps, bool(done)
      ((11,), 15, False)

    References:
      Duan et al., RL^2, arXiv:1611.02779, section 3.2; Osband, Russo and Van Roy, (More) efficient
      reinforcement learning via posterior sampling, arXiv:1306.0940.
    """
    check_positive(states=states, actions=actions, episodes=episodes, horizon=horizon)

    def seen(state: EpisodeState) -> Array:
        left = (episodes - 1 - state.episode).astype(jnp.float32)
        return jnp.concatenate(
            [
                jax.nn.one_hot(state.where, states),
                jax.nn.one_hot(horizon - 1 - state.time, horizon),
                jnp.stack([left / episodes, jnp.log1p(jnp.maximum(left, 0.0)) / 4.0]),
            ]
        )

    def reset(key: Array, params: MDP) -> tuple[Array, EpisodeState]:
        state = first_state()
        return seen(state), state

    def step(
        key: Array, state: EpisodeState, action: Array, params: MDP
    ) -> tuple[Array, EpisodeState, Array, Array]:
        where_key, noise_key = jax.random.split(key)
        chances = jnp.log(params.transitions[state.where, action])
        where = jax.random.categorical(where_key, chances).astype(jnp.int32)
        reward = params.means[state.where, action] + jax.random.normal(noise_key)
        state = next_state(state, where, state.time + 1 >= horizon)
        return seen(state), state, reward, state.episode >= episodes

    return Environment(
        partial(_draw, states, actions),
        reset,
        step,
        lambda params: jnp.ones(actions),
        partial(_hints, horizon),
        episodes * horizon,
        lambda state, action, params: params.means[state.where, action],
        partial(_best_action, horizon),
    )


def _draw(states: int, actions: int, key: Array) -> MDP:
    where_key, mean_key = jax.random.split(key)
    # Exponential numbers over their sum are a draw of Dirichlet(1, ..., 1).
    shares = jax.random.exponential(where_key, (states, actions, states))
    means = 1.0 + jax.random.normal(mean_key, (states, actions))
    return MDP(shares / shares.sum(axis=-1, keepdims=True), means)


def _best_action(horizon: int, state: EpisodeState, params: MDP) -> Array:
    after = optimal_values(params, horizon)[horizon - 1 - state.time]
    return jnp.argmax((params.means + params.transitions @ after)[state.where])


def _hints(horizon: int, params: MDP) -> Array:
    """The best return of a step, and the value of each state with half an episode to go."""
    values = optimal_values(params, horizon)
    half = values[horizon // 2] / max(1, horizon // 2)
    return jnp.concatenate([values[horizon, :1] / horizon, half])


def optimal_values(params: MDP, horizon: int) -> Array:
    """What the best policy of a known process earns, `[H + 1, S]`, by the steps that are left.

    V_0 = 0,  V_h(s) = max over a of m(s, a) + sum over s' of P(s' | s, a) V_h-1(s')

    Args:
      params: the process.
      horizon: steps H of an episode.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxmeta import acting
      >>> process = acting.MDP(jnp.full((2, 1, 2), 0.5), jnp.array([[1.0], [3.0]]))
      >>> acting.optimal_values(process, 2).tolist()
      [[0.0, 0.0], [1.0, 3.0], [3.0, 5.0]]
    """

    def back(values: Array, _: None) -> tuple[Array, Array]:
        values = (params.means + params.transitions @ values).max(axis=1)
        return values, values

    zeros = jnp.zeros(len(params.means))
    _, values = jax.lax.scan(back, zeros, None, length=horizon)
    return jnp.concatenate([zeros[None], values])
