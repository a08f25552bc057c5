"""Trials: a learner acts in an environment, and every step joins what it knows."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta._absent import with_absent
from jaxmeta.acting._environments import Environment, row
from jaxmeta.types import Array, Examples, MetaLearner, PyTree


class Trial(NamedTuple):
    """What happened in the N steps of a trial; steps after its end have the mask 0.

    Attributes:
      actions: int32 `[N]`.
      rewards: `[N]`, zero after the end.
      mask: 1 while the trial goes on `[N]`.
      logits: of the actions `[N, C]`.
      rows: what the learner read of each step `[N, P + 1]`.
      expected: the mean of each reward `[N]` where the environment knows it, else the reward.
      w: what the learner knows at the end.
    """

    actions: Array
    rewards: Array
    mask: Array
    logits: Array
    rows: Array
    expected: Array
    w: PyTree


def play(
    learner: MetaLearner,
    environment: Environment,
    theta: PyTree,
    params: PyTree,
    key: Array,
    *,
    greedy: bool = False,
) -> Trial:
    """One trial of a learner that can be extended: look, act, and take in what came of it.

        z = predict(theta, w, [obs, 0]);  action ~ softmax(z)
        w = extend(theta, w, row [obs, reward] of the class `action`)

    Actions that the task does not have are not taken, whether the learner knows of them or not.

    Args:
      learner: one with `extend`, whose classes are the actions.
      environment: the family of environments.
      theta: the learner's meta-parameters.
      params: the task, as `environment.draw` draws it.
      key: of the actions and of the environment.
      greedy: take the likeliest action instead of drawing one.

    Raises:
      ValueError: for a learner without `extend`.
    """
    if learner.extend is None:
        raise ValueError("play needs a learner that has extend, such as learners.recurrent.")
    reset_key, key = jax.random.split(key)
    obs, state = environment.reset(reset_key, params)
    nothing = Examples(row(obs, 0.0)[None], jnp.zeros(1, jnp.int32), jnp.zeros(1))
    there = environment.actions(params)
    w, present = learner.adapt(theta, nothing, description=there), there > 0

    def step(carry: Any, key: Array) -> tuple[Any, Any]:
        w, obs, state, going = carry
        act_key, step_key = jax.random.split(key)
        z = with_absent(learner.predict(theta, w, row(obs, 0.0)[None])[0], present)
        action = jnp.argmax(z) if greedy else jax.random.categorical(act_key, z)
        expected = environment.expected_reward
        mean = None if expected is None else expected(state, action, params)
        seen, state, reward, done = environment.step(step_key, state, action, params)
        read = row(obs, reward)
        took = Examples(read[None], action[None].astype(jnp.int32), going[None])
        w = learner.extend(theta, w, took)
        mean = reward if mean is None else mean
        out = (action, reward * going, going, z, read, mean * going)
        return (w, seen, state, going * (1.0 - done.astype(going.dtype))), out

    start = (w, obs, state, jnp.ones(()))
    last, found = jax.lax.scan(step, start, jax.random.split(key, environment.num_steps))
    return Trial(*found, w=last[0])
