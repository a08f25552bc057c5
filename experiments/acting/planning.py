"""What has no learner: policies for random processes, by what was counted in each.

Each makes a process to believe in before an episode, or before each step, and acts as would be best
in it. All know the prior: rewards N(m, 1) with m of N(1, 1), transitions of Dirichlet(1, ..., 1).
They run in NumPy, many processes side by side.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

WEIGHTS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.4)


class Counts(NamedTuple):
    """What was counted in T processes.

    Attributes:
      transitions: `[T, S, A, S]`.
      rewards: sums `[T, S, A]`.
      visits: `[T, S, A]`.
      steps: how many steps were taken.
    """

    transitions: np.ndarray
    rewards: np.ndarray
    visits: np.ndarray
    steps: int

    @property
    def chances(self) -> np.ndarray:
        """The mean of the posterior over transitions."""
        alpha = 1.0 + self.transitions
        return alpha / alpha.sum(axis=-1, keepdims=True)

    @property
    def means(self) -> np.ndarray:
        """The mean of the posterior over mean rewards."""
        return (1.0 + self.rewards) / (1.0 + self.visits)


class Belief(NamedTuple):
    """A process to act upon: `chances [T, S, A, S]` of next states, and `means [T, S, A]`.

    With `slack [T, S, A]` the chances are the best for the policy that differ by so much in sum.
    """

    chances: np.ndarray
    means: np.ndarray
    slack: np.ndarray | None = None


Believe = Callable[[np.random.Generator, Counts], Belief]


def posterior_mean(rng: np.random.Generator, counts: Counts) -> Belief:
    """The mean of the posterior: no exploration."""
    return Belief(counts.chances, counts.means)


def psrl(rng: np.random.Generator, counts: Counts) -> Belief:
    """A draw of the posterior (Osband et al., 2013)."""
    shares = rng.standard_gamma(1.0 + counts.transitions)
    std = 1.0 / np.sqrt(1.0 + counts.visits)
    means = counts.means + std * rng.standard_normal(std.shape)
    return Belief(shares / shares.sum(axis=-1, keepdims=True), means)


def optimistic_psrl(rng: np.random.Generator, counts: Counts) -> Belief:
    """A draw whose rewards are no lower than the mean of the posterior."""
    drawn = psrl(rng, counts)
    return drawn._replace(means=np.maximum(drawn.means, counts.means))


def posterior_bonus(weight: float, rng: np.random.Generator, counts: Counts) -> Belief:
    """The mean of the posterior and a bonus of `weight / sqrt(1 + visits)`."""
    return Belief(counts.chances, counts.means + weight / np.sqrt(1.0 + counts.visits))


def ucrl(weight: float, rng: np.random.Generator, counts: Counts) -> Belief:
    """Optimism as in UCRL2 (Jaksch et al., 2010): upper bounds of rewards and, in L1, transitions.

    The widths are those of the paper with a tuned weight: the proof's explore for longer than these
    trials last.
    """
    visits = np.maximum(counts.visits, 1.0)
    width = weight * np.sqrt(np.log(counts.steps + 2.0) / visits)
    seen, size = counts.transitions.sum(axis=-1, keepdims=True), counts.transitions.shape[-1]
    share = np.where(seen > 0, counts.transitions / np.maximum(seen, 1.0), 1.0 / size)
    means = np.where(counts.visits > 0, counts.rewards / visits, 1.0)
    return Belief(share, means + width, np.sqrt(size) * width)


FIXED: dict[str, Believe] = {
    "posterior_mean": posterior_mean,
    "psrl": psrl,
    "optimistic_psrl": optimistic_psrl,
}
TUNED: dict[str, Callable[..., Belief]] = {
    "posterior_bonus": posterior_bonus,
    "ucrl": ucrl,
}


def best_actions(belief: Belief, horizon: int) -> np.ndarray:
    """The best action `[H + 1, T, S]` in a process, by the steps that are left."""
    values = np.zeros(belief.means.shape[:2])
    found = [np.zeros(values.shape, int)]
    for _ in range(horizon):
        if belief.slack is None:
            later = np.matmul(
                belief.chances.reshape(*values.shape[:1], -1, values.shape[1]), values[:, :, None]
            )[..., 0]
        else:
            later = _hoped(belief, values)
        q = belief.means + later.reshape(belief.means.shape)
        found.append(q.argmax(axis=-1))
        values = q.max(axis=-1)
    return np.stack(found)


def _hoped(belief: Belief, values: np.ndarray) -> np.ndarray:
    """The most that the next state can be worth `[T, S, A]` within the slack."""
    assert belief.slack is not None
    best_first = np.argsort(-values, axis=1)
    chances = np.take_along_axis(belief.chances, best_first[:, None, None], axis=3)
    # The best state gains, and the worst ones lose what is above 1 in sum.
    chances[..., 0] = np.minimum(chances[..., 0] + belief.slack / 2.0, 1.0)
    upto = np.minimum(chances.cumsum(axis=-1), 1.0)
    chances = np.diff(upto, axis=-1, prepend=0.0)
    return np.einsum("tsaz,tz->tsa", chances, np.take_along_axis(values, best_first, axis=1))


class Processes(NamedTuple):
    """Known processes and the luck of each step: all policies meet the same.

    Attributes:
      chances: of next states `[T, S, A, S]`.
      means: mean rewards `[T, S, A]`.
      draws: uniform in 0..1 `[T, N]`: where each step leads.
      noise: of the rewards `[T, N]`.
      horizon: steps of an episode.
    """

    chances: np.ndarray
    means: np.ndarray
    draws: np.ndarray
    noise: np.ndarray
    horizon: int


def rewards_of(
    believe: Believe | None, processes: Processes, rng: np.random.Generator, *, every_step: bool
) -> np.ndarray:
    """Rewards `[T, N]` of a policy.

    Args:
      believe: of the policy; None acts at random.
      processes: what it acts in.
      rng: of the policy.
      every_step: plan before every step, not before every episode alone.
    """
    (num, steps), rows = processes.draws.shape, np.arange(len(processes.draws))
    states, actions = processes.means.shape[1:]
    horizon, cells = processes.horizon, (num, states, actions)
    counts = Counts(np.zeros((*cells, states)), np.zeros(cells), np.zeros(cells), 0)
    ladder, earned = processes.chances.cumsum(axis=-1), []
    where, plan = np.zeros(num, int), np.zeros((0, num, states), int)
    for n in range(steps):
        left = horizon - n % horizon
        if left == horizon:
            where = np.zeros(num, int)
        if believe is not None and (every_step or left == horizon):
            plan = best_actions(believe(rng, counts), left)
        random = rng.integers(actions, size=num) if believe is None else None
        action = plan[left, rows, where] if random is None else random
        reward = processes.means[rows, where, action] + processes.noise[:, n]
        after = (processes.draws[:, n, None] > ladder[rows, where, action]).sum(axis=1)
        after = np.minimum(after, states - 1)
        counts.rewards[rows, where, action] += reward
        counts.visits[rows, where, action] += 1.0
        if left > 1:
            counts.transitions[rows, where, action, after] += 1.0
        counts, where = counts._replace(steps=n + 1), after
        earned.append(reward)
    return np.stack(earned, axis=1)


def tuned(
    name: str, processes: Processes, rng: np.random.Generator, *, every_step: bool
) -> tuple[Believe, float]:
    """A policy of `TUNED` with the best of `WEIGHTS` on the given processes, and that weight."""
    make = TUNED[name]
    earned = [
        rewards_of(partial(make, weight), processes, rng, every_step=every_step).mean()
        for weight in WEIGHTS
    ]
    best = WEIGHTS[int(np.argmax(earned))]
    return partial(make, best), best
