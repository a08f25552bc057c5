"""Histories as support sets: what a learner is taught that predicts the best action from them."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxmeta.acting._environments import Environment, row
from jaxmeta.types import Array, Examples, MetaLearner, PyTree, Sampler, Task


def history_tasks(environment: Environment) -> Sampler:
    """A sampler of tasks whose support set is a history, and whose query is the best next action.

    The history is 0 to N - 1 steps of a policy that is drawn with the task: a share of one action,
    the rest by chances of Dirichlet(1, ..., 1). Trained on these by cross-entropy, a learner
    predicts the posterior of the best action: acting by draws from it is posterior sampling.

    Args:
      environment: a family that has `best_action`.

    Returns:
      `key -> task` with support rows `[N - 1, P + 1]`, masked after the history's end, one query
      row, and the actions that there are as the description.

    Raises:
      ValueError: for an environment whose best action is not known.

    Example:
      >>> import jax
      >>> from jaxmeta import acting
      >>> sampler = acting.history_tasks(acting.bernoulli_bandit(arms=5, pulls=10))
      >>> task = sampler(jax.random.key(0))
      >>> task.support.x.shape, task.query.x.shape, task.query.y.shape
      ((9, 3), (1, 3), (1,))

    References:
      Lee et al., Supervised pretraining can learn in-context reinforcement learning,
      arXiv:2306.14892.
    """
    best_action = environment.best_action
    if best_action is None:
        raise ValueError("history_tasks needs an environment that has best_action.")

    def sampler(key: Array) -> Task:
        draw_key, policy_key, end_key, reset_key, key = jax.random.split(key, 5)
        params = environment.draw(draw_key)
        present = environment.actions(params)
        chances = _policy(policy_key, present)
        end = jax.random.randint(end_key, (), 0, environment.num_steps)
        obs, state = environment.reset(reset_key, params)

        def step(carry: Any, each: tuple[Array, Array]) -> tuple[Any, Any]:
            (obs, state, going), (n, key) = carry, each
            act_key, step_key = jax.random.split(key)
            action = jax.random.categorical(act_key, jnp.log(chances)).astype(jnp.int32)
            seen, after, reward, done = environment.step(step_key, state, action, params)
            real = going * (n < end).astype(going.dtype)
            kept = jax.tree.map(
                lambda new, old: jnp.where(real > 0, new, old), (seen, after), (obs, state)
            )
            going = real * (1.0 - done.astype(real.dtype))
            return (*kept, going), (row(obs, reward), action, real)

        steps = environment.num_steps - 1
        each = jnp.arange(steps), jax.random.split(key, steps)
        (obs, state, _), (x, y, mask) = jax.lax.scan(step, (obs, state, jnp.ones(())), each)
        best = best_action(state, params).astype(jnp.int32)
        query = Examples(row(obs, 0.0)[None], best[None], jnp.ones(1))
        return Task(Examples(x, y, mask), query, present)

    return sampler


def _policy(key: Array, present: Array) -> Array:
    """The chances of actions of a policy, `[C]`."""
    share_key, draw_key, one_key = jax.random.split(key, 3)
    shares = jax.random.exponential(draw_key, present.shape) * present
    one = jax.random.categorical(one_key, jnp.log(present))
    share = jax.random.uniform(share_key)
    return share * shares / shares.sum() + (1.0 - share) * jax.nn.one_hot(one, len(present))


def with_blank_rows(learner: MetaLearner) -> MetaLearner:
    """A learner that finds a blank row of every action before its history.

    So there is something to say of actions that were not taken yet. Rows get one more column, which
    is 1 for the blank ones and 0 for others.

    Args:
      learner: one whose classes are the actions, such as `learners.in_context`. If its w is of a
        capacity, that has to hold the blank rows as well.

    Returns:
      A learner whose `adapt` reads as description which actions there are, `[C]`.

    Raises:
      ValueError: in `adapt`, without a description.

    Example:
      >>> import jax
      >>> from jaxmeta import acting, learners, networks
      >>> task = acting.history_tasks(acting.bernoulli_bandit(arms=5, pulls=10))(jax.random.key(0))
      >>> own = learners.in_context(networks.identity(), size=8, num_heads=2, ways=5)
      >>> learner = acting.with_blank_rows(own)
      >>> theta = learner.init(jax.random.key(1), task)
      >>> w = learner.adapt(theta, task.support, description=task.description)
      >>> learner.predict(theta, w, task.query.x).shape
      (1, 5)
    """

    def init(key: Array, task: Task) -> PyTree:
        return learner.init(key, Task(_flagged(task.support), _flagged(task.query)))

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> PyTree:
        if description is None:
            raise ValueError("with_blank_rows reads as description which actions there are, [C].")
        count = len(description)
        rows = _flagged(support)
        blank = Examples(
            jnp.zeros((count, rows.x.shape[1]), rows.x.dtype).at[:, -1].set(1.0),
            jnp.arange(count, dtype=rows.y.dtype),
            jnp.asarray(description, rows.mask.dtype),
        )
        both = Examples(*(jnp.concatenate(leaves) for leaves in zip(blank, rows, strict=True)))
        return learner.adapt(theta, both, key=key)

    def predict(theta: PyTree, w: PyTree, x: Array) -> Array:
        return learner.predict(theta, w, _with_zeros(x))

    own = learner.extend
    if own is None:
        return MetaLearner(init, adapt, predict)
    return MetaLearner(
        init, adapt, predict, lambda theta, w, examples: own(theta, w, _flagged(examples))
    )


def _with_zeros(x: Array) -> Array:
    return jnp.concatenate([x, jnp.zeros((len(x), 1), x.dtype)], axis=1)


def _flagged(rows: Examples) -> Examples:
    return rows._replace(x=_with_zeros(rows.x))
