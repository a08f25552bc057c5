"""Training by policy gradient through whole trials: an actor, and a critic that knows the task."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta import sparsity
from jaxmeta.acting._environments import Environment
from jaxmeta.acting._trials import Trial, play
from jaxmeta.networks._mlp import mlp
from jaxmeta.types import Array, Examples, LossFn, MetaLearner, Metrics, Penalty, PyTree, Task


class ActorCriticTheta(NamedTuple):
    """theta of `actor_critic`: the learner's own, and that of the critic, for training alone."""

    learner: PyTree
    critic: PyTree


_critic = mlp([64, 1])


def actor_critic(learner: MetaLearner, environment: Environment) -> MetaLearner:
    """A learner with a critic beside it in theta, for `actor_critic_objective`.

    Args:
      learner: one with `extend`, whose classes are the actions.
      environment: the family of environments that it acts in.

    Returns:
      A learner that adapts, predicts and extends as the given one, with `theta.learner`.

    Raises:
      ValueError: for a learner without `extend`.

    Example:
      >>> import jax
      >>> from jaxmeta import acting, learners, networks
      >>> bandit = acting.bernoulli_bandit(arms=3, pulls=4)
      >>> own = learners.recurrent(networks.identity(), ways=3, size=4)
      >>> learner = acting.actor_critic(own, bandit)
      >>> task = acting.environment_tasks(bandit)(jax.random.key(0))
      >>> theta = learner.init(jax.random.key(1), task)
      >>> trial = acting.play(learner, bandit, theta, task.description, jax.random.key(2))
      >>> trial.rewards.shape
      (4,)
    """
    if learner.extend is None:
        raise ValueError("actor_critic needs a learner that has extend, as learners.recurrent has.")
    own = learner.extend

    def init(key: Array, task: Task) -> ActorCriticTheta:
        learner_key, critic_key = jax.random.split(key)
        seen = _seen(environment, task.description, task.support.x)
        return ActorCriticTheta(learner.init(learner_key, task), _critic.init(critic_key, seen))

    def adapt(
        theta: ActorCriticTheta,
        support: Examples,
        *,
        description: PyTree = None,
        key: Array | None = None,
    ) -> PyTree:
        return learner.adapt(theta.learner, support, description=description, key=key)

    def predict(theta: ActorCriticTheta, w: PyTree, x: Array) -> Array:
        return learner.predict(theta.learner, w, x)

    def extend(theta: ActorCriticTheta, w: PyTree, examples: Examples) -> PyTree:
        return own(theta.learner, w, examples)

    return MetaLearner(init, adapt, predict, extend)


def _seen(environment: Environment, params: PyTree, rows: Array) -> Array:
    """What the critic reads of each step: what the learner saw, the rewards so far, and hints."""
    before = jnp.concatenate([jnp.zeros(1), jnp.cumsum(rows[:, -1])[:-1]])
    count = jnp.maximum(jnp.arange(len(rows), dtype=rows.dtype), 1.0)
    hints = jnp.broadcast_to(environment.hints(params), (len(rows), len(environment.hints(params))))
    return jnp.concatenate([rows[:, :-1], (before / count)[:, None], hints], axis=1)


def actor_critic_objective(
    learner: MetaLearner,
    environment: Environment,
    penalty: Penalty | None = None,
    *,
    alpha: float = 1.0,
    eta: float = 0.0,
    entropy: float = 0.02,
    num_steps: int | None = None,
    decay: float = 0.95,
) -> LossFn:
    """The objective of one task, `alpha * (minus return) + eta * penalty(w)`, by policy gradient.

        A_t = sum over s >= t of decay^(s - t) (r_s + V_s+1 - V_s)              (GAE, gamma 1)
        loss = alpha * mean of [- A_t log p(a_t) + (V_t - return_t)^2 / 2] + eta * penalty(w)

    w is what is remembered at the end of a trial. The critic V reads hints that the learner does
    not see: a baseline that knows the task takes noise from the gradient. With a decay of 1 that is
    unbiased; below 1 it is less noisy still, and biased as far as the critic is wrong.

    Args:
      learner: of `actor_critic`.
      environment: the family of environments.
      penalty: `penalty(w) -> scalar`.
      alpha: weight of the return.
      eta: weight of the penalty.
      entropy: weight of the actions' entropy, which falls to zero over `num_steps`.
      num_steps: outer steps of the training; None for an entropy that stays.
      decay: lambda of the advantages.

    Returns:
      `(theta, task, key, step=0) -> (loss, metrics)` for tasks of `environment_tasks`; `return` is
      among the metrics, and `density` of w.

    Raises:
      ValueError: in the objective, without a key.

    Example:
      >>> import jax
      >>> from jaxmeta import acting, learners, networks
      >>> bandit = acting.bernoulli_bandit(arms=3, pulls=4)
      >>> own = learners.recurrent(networks.identity(), ways=3, size=4)
      >>> learner = acting.actor_critic(own, bandit)
      >>> task = acting.environment_tasks(bandit)(jax.random.key(0))
      >>> objective = acting.actor_critic_objective(learner, bandit)
      >>> theta = learner.init(jax.random.key(1), task)
      >>> loss, metrics = objective(theta, task, jax.random.key(2))
      >>> loss.shape
      ()

    References:
      Schulman et al., High-dimensional continuous control using generalized advantage estimation,
      arXiv:1506.02438; Pinto et al., Asymmetric actor critic, arXiv:1710.06542.
    """

    def loss_fn(
        theta: ActorCriticTheta, task: Task, key: Array | None, step: Array | int = 0
    ) -> tuple[Array, Metrics]:
        if key is None:
            raise ValueError("actor_critic_objective draws actions: give it a key.")
        params = task.description
        trial = play(learner, environment, theta, params, key)
        scale = jnp.maximum(trial.mask.sum(), 1.0)
        seen = _seen(environment, params, trial.rows)
        # In returns a step, so that trials of any length are of one scale.
        left = jnp.cumsum(trial.mask[::-1])[::-1]
        values = _critic.apply(theta.critic, seen)[:, 0] * left
        advantages, returns = _advantages(trial, jax.lax.stop_gradient(values), decay)
        chance = jax.nn.log_softmax(trial.logits)
        chosen = jnp.take_along_axis(chance, trial.actions[:, None], axis=1)[:, 0]
        unsure = -(jnp.exp(chance) * jnp.where(jnp.exp(chance) > 0, chance, 0.0)).sum(axis=1)
        fade = 1.0 if num_steps is None else jnp.maximum(1.0 - step / num_steps, 0.0)
        gain = (trial.mask * (advantages * chosen + fade * entropy * unsure)).sum() / scale
        miss = (trial.mask * jnp.square(values - returns)).sum() / scale**2
        complexity = jnp.zeros(()) if penalty is None else penalty(trial.w)
        loss = alpha * (0.5 * miss - gain) + eta * complexity
        report = {"loss": loss, "return": trial.rewards.sum(), "penalty": complexity}
        return loss, report | {"density": sparsity.density(trial.w)}

    return loss_fn


def _advantages(trial: Trial, values: Array, decay: float) -> tuple[Array, Array]:
    """Generalised advantages and what the critic is to say, `[N]` each."""
    after = jnp.append(values[1:], 0.0)
    surprise = trial.mask * (trial.expected + after - values)

    def back(later: Array, now: Array) -> tuple[Array, Array]:
        advantage = now + decay * later
        return advantage, advantage

    _, found = jax.lax.scan(back, jnp.zeros(()), surprise, reverse=True)
    return found, found + values
