"""What the best policy earns, exactly: dynamic programming over what can be known of the arms."""

from functools import cache

from jaxmeta._validation import check_positive

_MOST_STATES = 600_000
_Arms = tuple[tuple[int, int], ...]


def bernoulli_optimum(arms: int, pulls: int) -> float:
    """The mean total reward of the best policy for arms that pay with uniform probabilities.

        V(state, n) = max over arms of (a + 1) / (a + b + 2) (1 + V(won)) + (1 - that) V(lost)

    A state is the wins a and losses b of each arm, in no order; arms that were not pulled are all
    alike.

    Args:
      arms: k.
      pulls: n.

    Raises:
      ValueError: if there are too many states to go through.

    Example:
      >>> round(bernoulli_optimum(2, 1), 3), round(bernoulli_optimum(5, 3), 3)
      (0.5, 1.708)

    References:
      Gittins (1979), Bandit processes and dynamic allocation indices; Bellman (1956), A problem in
      the sequential design of experiments.
    """
    check_positive(arms=arms, pulls=pulls)
    states = _count_states(arms, pulls)
    if states > _MOST_STATES:
        raise ValueError(
            f"The optimum of {arms} arms and {pulls} pulls takes {states:,} states, more than "
            f"{_MOST_STATES:,}."
        )

    @cache
    def value(known: _Arms, left: int) -> float:
        if not left:
            return 0.0
        choices = set(known) | ({(0, 0)} if len(known) < arms else set())
        return max(_earned(known, arm, left) for arm in choices)

    def _earned(known: _Arms, arm: tuple[int, int], left: int) -> float:
        wins, losses = arm
        others = list(known)
        if arm in others:
            others.remove(arm)
        won, lost = (
            tuple(sorted([*others, after])) for after in ((wins + 1, losses), (wins, losses + 1))
        )
        chance = (wins + 1) / (wins + losses + 2)
        return chance * (1.0 + value(won, left - 1)) + (1.0 - chance) * value(lost, left - 1)

    try:
        return value((), pulls)
    finally:
        value.cache_clear()


def _count_states(arms: int, pulls: int) -> int:
    """Multisets of at most so many arms, of m + 1 kinds for m pulls, with so many pulls in all."""
    # ways[used][total]: multisets of `used` arms that were pulled `total` times together.
    ways = [[0] * (pulls + 1) for _ in range(min(arms, pulls) + 1)]
    ways[0][0] = 1
    for size in range(1, pulls + 1):
        for _ in range(size + 1):
            for used in range(1, len(ways)):
                for total in range(size, pulls + 1):
                    ways[used][total] += ways[used - 1][total - size]
    return sum(map(sum, ways))
