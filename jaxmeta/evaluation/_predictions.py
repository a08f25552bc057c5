"""What a learner answers on many tasks: drawn or given, checked, adapted to and predicted."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from jaxmeta import losses
from jaxmeta._batches import check_batch, check_numbered, classes_read, nth, with_classes_read
from jaxmeta._programs import call_compiled
from jaxmeta._validation import check_task, violations
from jaxmeta.types import Array, MetaLearner, PyTree, Sampler, Task

Over = Literal["tasks", "classes", "groups"]
"""What an interval is over: tasks of the same classes, or tasks of new classes or groups."""


class Predictions(NamedTuple):
    """What a learner predicted of the query rows of T tasks, as NumPy arrays.

    Attributes:
      z: logits `[T, Q, C]`, or targets `[T, Q, D]`.
      y: classes `[T, Q]`, or targets `[T, Q, D]`.
      known: which rows can be judged, bool `[T, Q]`: real ones, of a class that the task has.
    """

    z: Any
    y: Any
    known: Any

    def probabilities(self) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities `[R, C]` and classes `[R]` of the rows that can be judged, of all tasks."""
        return special.softmax(self.z[self.known].astype(np.float64), axis=1), self.y[self.known]


def for_each_task(
    of: Callable[[Task, Array], PyTree],
    learner: MetaLearner,
    theta: PyTree,
    tasks: Task | Sampler,
    *,
    key: Array | None,
    num_tasks: int,
    tasks_per_chunk: int,
    over: Over = "tasks",
) -> tuple[PyTree, np.ndarray, np.ndarray | None]:
    """`of(task, z)` of every task, which query rows can be judged `[T, Q]`, and what tasks hold.

    Raises:
      ValueError: for a task that is not well-formed, by its number.
    """
    sampler, given = sampler_and_given(tasks, key, num_tasks)
    draw = drawing(sampler, over)

    def of_one(theta: PyTree, one: PyTree) -> tuple[PyTree, Array, Any, Array]:
        task, held = draw(one)
        check_task(task)
        (_, z, known), ways = with_classes_read(partial(answer, learner, theta), task)
        return of(task, z), known.astype(bool), held, well_formed(task, ways)

    def run(theta: PyTree, given: PyTree) -> PyTree:
        return jax.lax.map(partial(of_one, theta), given, batch_size=tasks_per_chunk)

    functions = (learner.adapt, learner.predict, of, *([] if sampler is None else [sampler]))
    found = call_compiled(lambda: run, functions, (tasks_per_chunk, over), theta, given)
    found, known, held, whole = jax.tree.map(np.asarray, found)
    if not whole.all():
        n = int(whole.argmin())
        task = nth(given, n) if sampler is None else sampler(nth(given, n))
        refuse(partial(answer, learner, theta), task, n)
    return found, known, held


def sampler_and_given(
    tasks: Task | Sampler, key: Array | None, num_tasks: int
) -> tuple[Sampler | None, PyTree]:
    """A sampler with the keys to draw its tasks from, or None with the tasks themselves."""
    if isinstance(tasks, Task) or not callable(tasks):
        check_batch(tasks)
        return None, tasks
    if key is None:
        raise ValueError(
            "evaluate draws tasks from a sampler with a key: pass key=jax.random.key(0)."
        )
    return tasks, jax.random.split(key, num_tasks)


def drawing(sampler: Sampler | None, over: Over) -> Callable[[PyTree], tuple[Task, Any]]:
    """From a key, or a task that is given, to the task and what it holds: classes, a group."""
    if over == "tasks":
        return lambda one: (one if sampler is None else sampler(one), None)
    says = getattr(sampler, "classes" if over == "classes" else "group", None)
    if sampler is None or says is None:
        raise ValueError(
            f"An interval over {over} needs a sampler that says which it draws, as tasks.episodes "
            "of a fixed number of ways does; of a batch, give the values per_task to "
            f"interval_over_{over}."
        )
    drawn_once = getattr(sampler, "with_classes", None)
    if over == "classes" and drawn_once is not None:
        return drawn_once
    return lambda key: (sampler(key), says(key))


def answer(learner: MetaLearner, theta: PyTree, task: Task) -> tuple[PyTree, Array, Array]:
    """`w`, the predictions of the query rows, and the mask of those that can be judged."""
    w = learner.adapt(theta, task.support, description=task.description)
    z = learner.predict(theta, w, task.query.x)
    return w, z, losses.answerable(z, task.query.y, task.query.mask)


def well_formed(task: Task, ways: tuple[int | None, int | None]) -> Array:
    """Whether a task breaks no rule; in the program, where the values are known at last."""
    parts = zip((task.support, task.query), ways, strict=True)
    broken = [where for rows, limit in parts for where in violations(rows, limit).values()]
    return ~jnp.stack([where.any() for where in broken]).any()


def refuse(answer: Callable[[Task], Any], task: Task, n: int) -> None:
    """Raise ValueError with what is wrong with the n-th task."""
    check_numbered(task, n, *classes_read(answer, task))
    raise ValueError(f"Task {n} is not well-formed as the sampler draws it when compiled.")
