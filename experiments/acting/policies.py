"""What has no learner: policies for Bernoulli bandits, by the wins and losses of each arm.

Each is an index: the arm with the highest is pulled. All know that means are uniform in 0..1. They
run in NumPy, many bandits side by side.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.special import betaincinv

Index = Callable[[np.random.Generator, np.ndarray, np.ndarray, int], np.ndarray]
"""`(rng, wins [T, C], losses [T, C], t) -> [T, C]`: the index of each arm at pull t, from 0."""


def greedy(rng: np.random.Generator, wins: np.ndarray, losses: np.ndarray, t: int) -> np.ndarray:
    """The mean of the posterior."""
    return _mean(wins, losses)


def at_random(rng: np.random.Generator, wins: np.ndarray, losses: np.ndarray, t: int) -> np.ndarray:
    """Nothing."""
    return rng.random(wins.shape)


def thompson(rng: np.random.Generator, wins: np.ndarray, losses: np.ndarray, t: int) -> np.ndarray:
    """A draw of the posterior (Thompson, 1933)."""
    return rng.beta(wins + 1.0, losses + 1.0)


def optimistic_thompson(
    rng: np.random.Generator, wins: np.ndarray, losses: np.ndarray, t: int
) -> np.ndarray:
    """A draw, or the mean if that is higher (May et al., 2012)."""
    return np.maximum(thompson(rng, wins, losses, t), _mean(wins, losses))


def bayes_ucb(rng: np.random.Generator, wins: np.ndarray, losses: np.ndarray, t: int) -> np.ndarray:
    """The quantile 1 - 1 / (t + 1) of the posterior, t from 1 (Kaufmann et al., 2012)."""
    known = np.arange(t + 1)
    table = betaincinv(known[:, None] + 1.0, known[None] + 1.0, 1.0 - 1.0 / (t + 2.0))
    return table[wins.astype(int), losses.astype(int)]


def ucb1(
    weight: float, rng: np.random.Generator, wins: np.ndarray, losses: np.ndarray, t: int
) -> np.ndarray:
    """UCB1 (Auer et al., 2002), its bonus with a tuned weight: each arm once, then by the index."""
    count = wins + losses
    bonus = np.sqrt(2.0 * np.log(t + 1.0) / np.maximum(count, 1.0))
    return np.where(count > 0, wins / np.maximum(count, 1.0) + weight * bonus, 1e3)


def ucb1_prior(
    weight: float, rng: np.random.Generator, wins: np.ndarray, losses: np.ndarray, t: int
) -> np.ndarray:
    """UCB1 with the mean of the posterior, so that an arm need not be pulled to have an index."""
    bonus = np.sqrt(2.0 * np.log(t + 2.0) / (wins + losses + 1.0))
    return _mean(wins, losses) + weight * bonus


def posterior_bonus(
    weight: float, rng: np.random.Generator, wins: np.ndarray, losses: np.ndarray, t: int
) -> np.ndarray:
    """The mean of the posterior and a tuned number of its standard deviations."""
    a, b = wins + 1.0, losses + 1.0
    std = np.sqrt(a * b / (np.square(a + b) * (a + b + 1.0)))
    return _mean(wins, losses) + weight * std


def _mean(wins: np.ndarray, losses: np.ndarray) -> np.ndarray:
    return (wins + 1.0) / (wins + losses + 2.0)


FIXED: dict[str, Index] = {
    "random": at_random,
    "greedy": greedy,
    "thompson": thompson,
    "optimistic_thompson": optimistic_thompson,
    "bayes_ucb": bayes_ucb,
}
TUNED: dict[str, Callable[..., np.ndarray]] = {
    "ucb1": ucb1,
    "ucb1_prior": ucb1_prior,
    "posterior_bonus": posterior_bonus,
}
WEIGHTS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)


def rewards_of(
    index: Index, means: np.ndarray, noise: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Rewards `[T, N]` of a policy; ties are broken by chance.

    Args:
      index: of the policy.
      means: of the arms `[T, C]`.
      noise: the luck of each pull of each arm `[T, C, N]`, as the environment draws it.
      rng: of the policy.
    """
    (count, _, pulls), rows = noise.shape, np.arange(len(means))
    wins, losses = np.zeros(means.shape), np.zeros(means.shape)
    rewards = np.zeros((count, pulls), np.float32)
    for t in range(pulls):
        value = index(rng, wins, losses, t) + 1e-6 * rng.random(means.shape)
        arm = value.argmax(axis=1)
        before = (wins + losses)[rows, arm].astype(int)
        rewards[:, t] = paid = noise[rows, arm, before] < means[rows, arm]
        wins[rows, arm] += paid
        losses[rows, arm] += ~paid
    return rewards


def tuned(
    name: str, means: np.ndarray, noise: np.ndarray, rng: np.random.Generator
) -> tuple[Index, float]:
    """The policy with the weight of its bonus that earns most on these tasks, and the weight."""
    found = [partial(TUNED[name], weight) for weight in WEIGHTS]
    earned = [rewards_of(index, means, noise, rng).sum(axis=1).mean() for index in found]
    best = int(np.argmax(earned))
    return found[best], WEIGHTS[best]
