"""An environment is four pure functions; a task is a draw of what it does not tell."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from jaxmeta.types import Array, Examples, PyTree, Sampler, Task


class Environment(NamedTuple):
    """A family of environments, of which each task is one; `reset` and `step` are as gymnax's.

    Attributes:
      draw: `key -> params`: what a task is, and the learner has to find out.
      reset: `(key, params) -> (obs [P], state)`.
      step: `(key, state, action [], params) -> (obs [P], state, reward [], done [])`.
      actions: `params -> [C]`: 1 for each action that there is.
      hints: `params -> [H]`: what a critic may know while it is trained, such as the best reward.
      num_steps: the most steps of a trial.
      expected_reward: `(state, action, params) -> []`, the mean of what `step` draws, if it is
        known: policy gradients that use it are as unbiased, and less noisy.
      best_action: `(state, params) -> []`, what the best policy does that knows the task, if that
        is known: what `history_tasks` teaches.
    """

    draw: Callable[[Array], PyTree]
    reset: Callable[[Array, PyTree], tuple[Array, PyTree]]
    step: Callable[[Array, PyTree, Array, PyTree], tuple[Array, PyTree, Array, Array]]
    actions: Callable[[PyTree], Array]
    hints: Callable[[PyTree], Array]
    num_steps: int
    expected_reward: Callable[[PyTree, Array, PyTree], Array] | None = None
    best_action: Callable[[PyTree, PyTree], Array] | None = None


class EpisodeState(NamedTuple):
    """Where one is, the steps of this episode, and the episodes before it; int32 `[]`."""

    where: Array
    time: Array
    episode: Array


def first_state() -> EpisodeState:
    """The start of a trial."""
    return EpisodeState(*(jnp.zeros((), jnp.int32) for _ in range(3)))


def next_state(state: EpisodeState, where: Array, over: Array) -> EpisodeState:
    """One step on to `where`, or at the start of the next episode if this one is over."""
    return EpisodeState(
        jnp.where(over, 0, where),
        jnp.where(over, 0, state.time + 1),
        state.episode + over.astype(jnp.int32),
    )


def row(obs: Array, reward: Array | float) -> Array:
    """What a learner reads of a step `[P + 1]`: what was seen before it, and its reward."""
    return jnp.append(obs, jnp.asarray(reward, obs.dtype))


def environment_tasks(environment: Environment) -> Sampler:
    """A sampler of tasks whose description is one environment of the family.

    Their support and query sets are one blank row each, which tells learners the shapes: the
    history that a learner reads is made by its own actions (`play`).

    Args:
      environment: the family.

    Example:
      >>> import jax
      >>> from jaxmeta import acting
      >>> sampler = acting.environment_tasks(acting.bernoulli_bandit(arms=5, pulls=10))
      >>> sampler(jax.random.key(0)).description.means.shape
      (5,)
    """

    def sampler(key: Array) -> Task:
        params = environment.draw(key)
        obs, _ = environment.reset(key, params)
        rows = Examples(row(obs, 0.0)[None], jnp.zeros(1, jnp.int32), jnp.ones(1))
        return Task(rows, rows, params)

    return sampler
