"""Intervals for new classes or groups: those over tasks say nothing of classes not drawn."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

_LEAST_CLASSES_A_WAY = 3  # classes of the pool for each of a task: beyond, effects are not additive
_LEAST_SPARE_TASKS = 30  # tasks beyond one a class: what is left over measures the noise


def interval_over_classes(
    values: ArrayLike, classes: ArrayLike, num_classes: int | None = None
) -> float:
    """Half-width of the 95% interval of a mean over tasks, for tasks of new classes.

    Tasks that share classes are not independent. By the projection of Hajek the mean of tasks with
    m of n classes varies with the classes that were drawn by

        m^2 Var(e_c) / n

    where e_c is what the presence of class c adds to a task: by least squares of the values on
    membership, less the variance that the noise of the values gives to these estimates. To it comes
    the variance of the mean over the tasks.

    Args:
      values: of the tasks `[T]`, such as accuracies.
      classes: which m classes each task held, integers or names `[T, m]`.
      num_classes: of the finite pool that the classes come from, so that an interval over all of
        them is that over tasks; by default the pool has no end.

    Returns:
      The half-width, by Student's t with n - 1 degrees of freedom.

    Raises:
      ValueError: if the shapes do not fit; if m is not well below n (a third), or there are fewer
        than n + 30 tasks, for which the projection does not hold; for a pool smaller than n.

    Example:
      >>> import numpy as np
      >>> rng = np.random.default_rng(0)
      >>> classes = np.stack([rng.choice(20, 5, replace=False) for _ in range(1000)])
      >>> values = rng.normal(size=20)[classes].mean(axis=1)
      >>> new = interval_over_classes(values, classes)
      >>> new > 5 * interval_over_classes(values, classes, num_classes=20)
      True

    References:
      Hajek (1968), Asymptotic normality of simple linear rank statistics under alternatives.
    """
    values, classes = np.asarray(values, np.float64), np.asarray(classes)
    if values.ndim != 1 or classes.ndim != 2 or len(classes) != len(values):
        raise ValueError(
            "interval_over_classes reads values [T] and the classes [T, m] of the same tasks, got "
            f"{values.shape} and {classes.shape}."
        )
    check_classes(classes, num_classes)
    names, codes = np.unique(classes, return_inverse=True)
    codes = codes.reshape(classes.shape)
    (num_tasks, ways), count = classes.shape, len(names)
    member = np.zeros((num_tasks, count))
    # A class that is there twice, as it is and turned, counts twice.
    np.add.at(member, (np.arange(num_tasks)[:, None], codes), 1.0)
    member -= member.mean(axis=0)
    centred = values - values.mean()
    # Least squares; that every task holds m classes leaves one direction undetermined.
    sizes, directions = np.linalg.eigh(member.T @ member)
    kept = sizes > 1e-9 * sizes[-1]
    effects = directions[:, kept] @ (directions[:, kept].T @ (member.T @ centred) / sizes[kept])
    noise = np.sum((centred - member @ effects) ** 2) / (num_tasks - kept.sum() - 1)
    of_noise = noise * np.sum(1.0 / sizes[kept]) / count
    of_effects = max(np.sum((effects - effects.mean()) ** 2) / (count - 1) - of_noise, 0.0)
    unseen = 1.0 if num_classes is None else 1.0 - count / num_classes
    variance = ways**2 * of_effects / count * unseen + values.var(ddof=1) / num_tasks
    return float(stats.t.ppf(0.975, count - 1) * math.sqrt(variance))


def check_classes(classes: np.ndarray, num_classes: int | None) -> None:
    """Raise ValueError if tasks of these classes `[T, m]` do not tell an interval over classes."""
    (num_tasks, ways), count = classes.shape, len(np.unique(classes))
    if count < _LEAST_CLASSES_A_WAY * ways:
        raise ValueError(
            f"Tasks hold {ways} of {count} classes: an interval over classes needs "
            f"{_LEAST_CLASSES_A_WAY} times as many as a task holds."
        )
    if num_tasks < count + _LEAST_SPARE_TASKS:
        raise ValueError(
            f"There are {num_tasks} tasks of {count} classes: an interval over classes needs "
            f"{count + _LEAST_SPARE_TASKS} tasks or more, to tell classes from noise."
        )
    if num_classes is not None and num_classes < count:
        raise ValueError(f"The tasks hold {count} classes, and num_classes is {num_classes}.")


def interval_over_groups(values: ArrayLike, groups: ArrayLike) -> float:
    """Half-width of the 95% interval of a mean over tasks, for tasks of new groups.

    By the jackknife over groups, such as alphabets or domains: the mean is taken without each of
    them in turn.

    Args:
      values: of the tasks `[T]`.
      groups: of which group each task is `[T]`.

    Returns:
      The half-width, by Student's t with one degree of freedom less than there are groups.

    Raises:
      ValueError: if the shapes do not fit, or for fewer than two groups.

    References:
      Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 11.
    """
    values, groups = np.asarray(values, np.float64), np.asarray(groups)
    if values.ndim != 1 or groups.shape != values.shape:
        raise ValueError(
            "interval_over_groups reads values [T] and the group of each [T], got "
            f"{values.shape} and {groups.shape}."
        )
    check_groups(groups)
    names, codes = np.unique(groups, return_inverse=True)
    count = len(names)
    sums, sizes = np.bincount(codes, values), np.bincount(codes)
    without = (sums.sum() - sums) / (len(values) - sizes)
    variance = (count - 1) / count * np.sum((without - without.mean()) ** 2)
    return float(stats.t.ppf(0.975, count - 1) * math.sqrt(variance))


def check_groups(groups: np.ndarray) -> None:
    """Raise ValueError if tasks of these groups `[T]` do not tell an interval over groups."""
    count = len(np.unique(groups))
    if count < 2:
        raise ValueError(f"An interval over groups needs two or more, got {count}.")
