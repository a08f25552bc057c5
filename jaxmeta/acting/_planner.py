"""A planner for random processes: counts are `w`, and how much to explore is what is learned."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta._absent import with_absent
from jaxmeta._examples import classes_there, one_hot_labels, read_support
from jaxmeta._validation import check_positive
from jaxmeta.networks._mlp import mlp
from jaxmeta.types import Array, Examples, MetaLearner, PyTree, Task


class ProcessCounts(NamedTuple):
    """`w` of a planner: sums over the steps that were taken.

    Attributes:
      transitions: how often each state came next `[S, A, S]`.
      rewards: sums of rewards `[S, A]`.
      visits: number of rewards `[S, A]`.
      last: 1 where the last step was `[S, A]`: what came next is not known yet.
      present: which actions there are `[A]`.
    """

    transitions: Array
    rewards: Array
    visits: Array
    last: Array
    present: Array


_bonus = mlp([16, 1], activation=jnp.tanh)


def planner(
    *, states: int, actions: int, horizon: int, mean: float = 1.0, bonus: float = 0.5
) -> MetaLearner:
    """Plan with the posterior mean of a process and a learned bonus for what is not known.

        m(s, a)      = (k m0 + sum of rewards) / (k + n),   u(s, a) = 1 / sqrt(k + n)
        P(s' | s, a) = (alpha + n(s, a, s')) / (S alpha + n(s, a))
        Q_h(s, a)    = m + u b([u, log(1 + n), episodes left]) + sum over s' of P max_a' Q_h-1
        z_a          = scale * Q_h(s, a),  h = the steps that the episode still has

    theta is the prior (m0, k, alpha), the scale, and the perceptron b, which reads how often a
    step was taken and how many episodes are left: so it can explore early and cash in late. A
    constant b is the usual bonus for optimism.

    Args:
      states: number of states S.
      actions: number of actions A, the classes.
      horizon: steps H of an episode.
      mean: where the mean of the prior of rewards, m0, starts.
      bonus: where b starts.

    Returns:
      A learner of the rows of `random_mdp`, whose `z` is `[N, A]` logits of actions. It has
      `extend`; the rows come in the order of their steps.

    Raises:
      ValueError: for a number below one; in `adapt` and `predict`, for rows or a description
        of another length.

    Example:
      >>> import jax
      >>> from jaxmeta import acting
      >>> process = acting.random_mdp(states=4, actions=2, episodes=3, horizon=5)
      >>> learner = acting.planner(states=4, actions=2, horizon=5)
      >>> task = acting.environment_tasks(process)(jax.random.key(0))
      >>> theta = learner.init(jax.random.key(1), task)
      >>> trial = acting.play(learner, process, theta, task.description, jax.random.key(2))
      >>> int(trial.w.visits.sum()), int(trial.w.transitions.sum())
      (15, 12)

    References:
      Sorg, Singh and Lewis, Variance-based rewards for approximate Bayesian reinforcement learning,
      arXiv:1203.3518; Tamar et al., Value iteration networks, arXiv:1602.02867.
    """
    check_positive(states=states, actions=actions, horizon=horizon)
    size = states + horizon + 3

    def check(x: Array) -> None:
        if x.shape[1:] != (size,):
            raise ValueError(
                f"This planner reads rows of {states} states, {horizon} steps, two numbers of the "
                f"episodes and a reward, {size} in all, got shape {x.shape}."
            )

    def init(key: Array, task: Task) -> PyTree:
        check(task.support.x)
        *inner, last = _bonus.init(key, jnp.zeros((1, 4)))
        last = {"kernel": 0.1 * last["kernel"], "bias": last["bias"] + bonus}
        prior = {
            "mean": jnp.full((), mean),
            "log_strength": jnp.zeros(()),
            "log_alpha": jnp.zeros(()),
        }
        return prior | {"log_scale": jnp.log(jnp.float32(10.0)), "bonus": [*inner, last]}

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> ProcessCounts:
        del key
        cells = jnp.zeros((states, actions))
        present = classes_there(description, actions, "planner")
        nothing = ProcessCounts(jnp.zeros((states, actions, states)), cells, cells, cells, present)
        return extend(theta, nothing, support)

    def extend(theta: PyTree, w: ProcessCounts, examples: Examples) -> ProcessCounts:
        del theta
        rows = read_support(examples, actions, classes_for="planner", may_be_empty=True)
        check(rows.x)

        def step(w: ProcessCounts, row: tuple[Array, Array, Array]) -> tuple[ProcessCounts, None]:
            x, member, real = row
            more = _counted(w, x, member.astype(x.dtype))
            return jax.tree.map(lambda new, old: jnp.where(real > 0, new, old), more, w), None

        return jax.lax.scan(step, w, (rows.x, one_hot_labels(rows, actions), rows.mask))[0]

    def predict(theta: PyTree, w: ProcessCounts, x: Array) -> Array:
        check(x)
        return with_absent(jax.vmap(lambda row: _plan(theta, w, row))(x), w.present)

    return MetaLearner(init, adapt, predict, extend)


class _Row(NamedTuple):
    """A row of `random_mdp`, taken apart: all but the reward are vectors."""

    state: Array
    left: Array
    episodes: Array
    reward: Array


def _apart(x: Array, states: int) -> _Row:
    return _Row(x[:states], x[states:-3], x[-3:-1], x[-1])


def _counted(w: ProcessCounts, x: Array, action: Array) -> ProcessCounts:
    """The counts after one step more."""
    row = _apart(x, len(w.visits))
    cell = row.state[:, None] * action[None]
    return ProcessCounts(
        _arrived(w, row), w.rewards + row.reward * cell, w.visits + cell, cell, w.present
    )


def _arrived(w: ProcessCounts, row: _Row) -> Array:
    """The transitions, once it is seen where the last step led; a new episode tells nothing."""
    goes_on = 1.0 - row.left[-1]
    return w.transitions + (goes_on * w.last)[..., None] * row.state[None, None]


def _plan(theta: PyTree, w: ProcessCounts, x: Array) -> Array:
    """Values of the actions `[A]` at a row `[P]`."""
    states, actions = w.visits.shape
    row = _apart(x, states)
    known, alpha = _arrived(w, row), jnp.exp(theta["log_alpha"])
    chances = (alpha + known) / (states * alpha + known.sum(axis=2, keepdims=True))
    strength = jnp.exp(theta["log_strength"])
    total = strength + w.visits
    unsure = jax.lax.rsqrt(total)
    later = jnp.broadcast_to(row.episodes, (states, actions, 2))
    seen = jnp.stack([unsure, jnp.log1p(w.visits) / 4.0], axis=2)
    seen = jnp.concatenate([seen, later], axis=2).reshape(-1, 4)
    bonus = unsure * _bonus.apply(theta["bonus"], seen).reshape(states, actions)
    hoped = (strength * theta["mean"] + w.rewards) / total + bonus

    def back(values: Array, _: None) -> tuple[Array, Array]:
        q = hoped + chances @ values
        return jnp.where(w.present[None], q, -jnp.inf).max(axis=1), row.state @ q

    _, q = jax.lax.scan(back, jnp.zeros(states), None, length=len(row.left))
    return jnp.exp(theta["log_scale"]) * (row.left @ q)
