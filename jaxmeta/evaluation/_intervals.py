"""What an evaluation says: a mean with its 95% interval over tasks, and what `w` weighs."""

import math
from typing import NamedTuple

import numpy as np

from jaxmeta.evaluation._finite_sample import betting_interval, tolerance_limit
from jaxmeta.evaluation._over_classes import interval_over_classes, interval_over_groups
from jaxmeta.evaluation._predictions import Over, Predictions

_Z95 = 1.959963984540054


class Evaluation(NamedTuple):
    """What one learner did on T tasks.

    Attributes:
      mean: mean of the metric over tasks; NaN if the metric is, of any task.
      ci95: half-width of the 95% interval of that mean, over tasks.
      per_task: the metric of each task `[T]`; NaN for a task that no row of is judged.
      density: mean share of exact non-zeros in `w`.
      nonzeros: mean number of them.
      num_bytes: mean bytes to ship `w` (see `sparsity.num_bytes`).
      left_out: query rows, in all tasks together, that were not judged, as their task has no
        support row of their class: nobody could be right about them.
      unjudged: the places of tasks all of whose query rows were left out.
      ci95_new: as `ci95`, for tasks of new classes or groups; NaN if it was not asked for.
      over: what `ci95_new` is over.
      held: which classes `[T, m]`, or which group `[T]`, each task held, if it was asked for.
      predictions: of all query rows, if they were asked for.
    """

    mean: float
    ci95: float
    per_task: np.ndarray
    density: float
    nonzeros: float
    num_bytes: float
    left_out: int = 0
    unjudged: tuple[int, ...] = ()
    ci95_new: float = math.nan
    over: Over = "tasks"
    held: np.ndarray | None = None
    predictions: Predictions | None = None

    @property
    def judged(self) -> np.ndarray:
        """Which tasks had a row to be judged, bool `[T]`."""
        return ~np.isin(np.arange(len(self.per_task)), self.unjudged)

    @property
    def num_tasks(self) -> int:
        """Number of tasks behind the mean."""
        return len(self.per_task) - len(self.unjudged)

    def quantile(self, share: float) -> float:
        """What so large a share of these tasks stays below: 0.05 for the worst twentieth.

        Raises:
          ValueError: for a share outside of 0..1.
        """
        return float(np.quantile(self.per_task[self.judged], share))

    def tolerance_limit(self, share: float = 0.95, confidence: float = 0.95) -> float:
        """What so large a share of *new* tasks reaches, with that confidence.

        Raises:
          ValueError: as the function `tolerance_limit` does.
        """
        return tolerance_limit(self.per_task[self.judged], share, confidence)

    def betting_interval(self, level: float = 0.95) -> tuple[float, float]:
        """The interval of the mean over tasks that holds for any distribution and few tasks too.

        Raises:
          ValueError: for a metric that is not in 0..1, as accuracy is.
        """
        return betting_interval(self.per_task[self.judged], level)


def interval95(values: np.ndarray) -> float:
    """Half-width of the normal 95% interval of the mean of `values [T]`; infinite for T < 2."""
    if len(values) < 2:
        return math.inf
    return _Z95 * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def interval_over(
    over: Over, values: np.ndarray, held: np.ndarray | None, num_classes: int | None = None
) -> float:
    """Half-width of the 95% interval of a mean `values [T]` over tasks, classes or groups."""
    if over == "tasks" or held is None:
        return interval95(values)
    if over == "groups":
        return interval_over_groups(values, held)
    return interval_over_classes(values, held, num_classes)


def paired_difference(
    ours: Evaluation, theirs: Evaluation, *, over: Over = "tasks", num_classes: int | None = None
) -> tuple[float, float]:
    """Mean of `ours - theirs` over the same tasks, and the half-width of its 95% interval.

    Tasks differ more than learners do: pairing takes that part of the spread away. A task that one
    of them was not judged on plays no part.

    Args:
      ours: an evaluation.
      theirs: another, of the same tasks.
      over: what the interval is over; for classes or groups, `ours` has to be evaluated so.
      num_classes: of a finite pool, as for `interval_over_classes`.

    Raises:
      ValueError: if the two were not judged on equally many tasks; for an interval over what
        `ours` does not hold, or that does not hold (`interval_over_classes`).
    """
    if over not in ("tasks", ours.over):
        raise ValueError(
            f"The tasks were evaluated over {ours.over}: for a difference over {over} pass "
            f"evaluate(..., over={over!r})."
        )
    if len(ours.per_task) != len(theirs.per_task):
        raise ValueError(
            f"paired_difference compares learners on the same tasks, got {len(ours.per_task)} and "
            f"{len(theirs.per_task)} tasks; judge both with the same sampler, key and num_tasks."
        )
    both = ours.judged & theirs.judged
    difference = ours.per_task[both].astype(np.float64) - theirs.per_task[both]
    held = None if ours.held is None else ours.held[both]
    return mean_of_known(difference), interval_over(over, difference, held, num_classes)


def mean_of_known(values: np.ndarray) -> float:
    """NaN of none, without a word."""
    return float(values.mean(dtype=np.float64)) if len(values) else math.nan
