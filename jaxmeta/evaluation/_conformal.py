"""Prediction sets of a learner that hold the right class of a new task as often as is said."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta._batches import nth, with_classes_read
from jaxmeta._validation import check_positive, check_task
from jaxmeta.evaluation._calibration import conformal_threshold
from jaxmeta.evaluation._evaluate import answer, refuse, sampler_and_given, well_formed
from jaxmeta.types import Array, MetaLearner, PyTree, Sampler, Task


def one_less_probability(z: Array, y: Array) -> Array:
    """Scores `[N]` of logits `z [N, C]` and classes `y [N]`: one less the right one's softmax."""
    p = jax.nn.softmax(z, axis=-1)
    return 1.0 - jnp.take_along_axis(p, jnp.maximum(y, 0)[:, None], axis=-1)[:, 0]


def conformal(
    learner: MetaLearner,
    theta: PyTree,
    tasks: Task | Sampler,
    level: float = 0.9,
    *,
    key: Array | None = None,
    num_tasks: int = 1000,
    score: Callable[[Array, Array], Array] = one_less_probability,
    tasks_per_chunk: int = 10,
) -> float:
    """A threshold for prediction sets that hold at the level, over new tasks and their rows.

    The sets are `prediction_set(softmax(z), threshold)`. They hold for any learner, any theta, and
    any number of shots, if the calibration tasks and the new one are exchangeable: of classes
    that were not trained on, if the new ones are not.

    Args:
      learner: the meta-learner.
      theta: its meta-parameters.
      tasks: calibration tasks, a batch or a sampler, as for `evaluate`.
      level: the probability that a set holds the right class.
      key: of the tasks, for a sampler only.
      num_tasks: how many to draw, for a sampler only.
      score: `(z, y) -> [N]`, the larger the worse; for regression such as |y - z| / sigma.
      tasks_per_chunk: tasks that are vmapped at once.

    Returns:
      The threshold; infinite if the tasks are too few for the level.

    Raises:
      ValueError: for a level outside of 0..1, a score that is NaN, or as `evaluate` does for tasks.

    Example:
      >>> import jax
      >>> from jaxmeta import evaluation, learners, networks, tasks
      >>> sampler = tasks.two_tasks()
      >>> learner = learners.prototypes(networks.identity(), ways=2)
      >>> theta = learner.init(jax.random.key(0), sampler(jax.random.key(1)))
      >>> key = jax.random.key(2)
      >>> q = evaluation.conformal(learner, theta, sampler, 0.8, key=key, num_tasks=20)
      >>> 0.0 < q <= 1.0
      True

    References:
      As `conformal_threshold`.
    """
    check_positive(num_tasks=num_tasks, tasks_per_chunk=tasks_per_chunk)
    sampler, given = sampler_and_given(tasks, key, num_tasks)

    def scored(theta: PyTree, one: PyTree) -> tuple[Array, Array, Array]:
        task = one if sampler is None else sampler(one)
        check_task(task)
        (_, z, known), ways = with_classes_read(partial(answer, learner, theta), task)
        return score(z, task.query.y), known, well_formed(task, ways)

    @jax.jit
    def run(theta: PyTree, given: PyTree) -> tuple[Array, Array, Array]:
        return jax.lax.map(partial(scored, theta), given, batch_size=tasks_per_chunk)

    scores, known, whole = (np.asarray(each) for each in run(theta, given))
    if not whole.all():
        n = int(whole.argmin())
        task = nth(given, n) if sampler is None else sampler(nth(given, n))
        refuse(partial(answer, learner, theta), task, n)
    which, rows = np.nonzero(known)
    return conformal_threshold(scores[which, rows], level, which)
