"""Checks of a batch of tasks, and of how many classes its labels are read as."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta._validation import as_numpy, check_task, is_known, listening, violations
from jaxmeta.types import PyTree, Task

_STACK = "jax.tree.map(lambda *leaves: jnp.stack(leaves), *tasks)"


def check_batch(
    tasks: Any,
    ways_of: Callable[[Task], tuple[int | None, int | None]] | None = None,
    *,
    finite: bool = True,
) -> None:
    """Raise ValueError unless `tasks` is one Task of well-formed tasks along a leading axis.

    Args:
      tasks: the batch.
      ways_of: from a task of shapes to the numbers of classes that its support and its query
        labels are read as, None where they are not. With it values are looked at too, where they
        are known.
      finite: whether inputs and targets that are NaN or infinite are refused too.
    """
    _check_leading_axis(tasks)
    one = jax.tree.map(_shape_of_first, tasks)
    jax.eval_shape(check_task, one)
    if ways_of is None or not is_known(tasks.support, tasks.query):
        return
    ways = ways_of(one)
    for rows, limit in zip(tasks[:2], ways, strict=True):
        broken = violations(as_numpy(rows), limit, np).items()
        rules = [where for rule, where in broken if finite or rule not in ("inputs", "targets")]
        bad = np.stack([where.any(axis=-1) for where in rules]).any(axis=0)
        if bad.any():
            check_numbered(nth(tasks, int(bad.argmax())), int(bad.argmax()), *ways)


def _check_leading_axis(tasks: Any) -> None:
    if not isinstance(tasks, Task):
        raise ValueError(
            f"A batch is one Task with a leading axis, got {type(tasks).__name__}: stack a list of "
            f"tasks by {_STACK}."
        )
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(tasks)}
    masks = [jnp.shape(rows.mask) for rows in tasks[:2]]
    if any(len(mask) != 2 for mask in masks) or len(sizes) != 1:
        raise ValueError(
            f"A batch is one Task with a leading axis on every leaf: stack tasks by {_STACK}; of "
            "one task take jax.tree.map(lambda leaf: leaf[None], task). Masks are [T, N], got "
            f"{masks[0]} and {masks[1]}."
        )
    if sizes == {(0,)}:
        raise ValueError("The batch holds no tasks: its leading axis is 0.")


def _shape_of_first(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(jnp.shape(leaf)[1:], jnp.result_type(leaf))


def nth(tasks: PyTree, n: int) -> PyTree:
    """The n-th of a batch."""
    return jax.tree.map(lambda leaf: leaf[n], tasks)


def check_numbered(task: Task, n: int, support_ways: int | None, query_ways: int | None) -> None:
    """`check_task` with the number of the task in the message."""
    known = Task(as_numpy(task.support), as_numpy(task.query))
    try:
        check_task(known, support_ways=support_ways, query_ways=query_ways)
    except ValueError as error:
        raise ValueError(f"Task {n}: {error}") from error


def with_classes_read(
    function: Callable[[Task], Any], task: Task
) -> tuple[Any, tuple[int | None, int | None]]:
    """`function(task)`, and as how many classes it reads the support and the query labels.

    Learners and losses check labels by their number of classes wherever they read them, and say
    here what they know. Where nobody reads the query labels they are of the support's classes;
    None stands for no classes, or for whoever reads them without a word.
    """
    with listening() as noted:
        result = function(task)
    support, query = (
        min((ways for y, ways in noted if y is rows.y), default=None)
        for rows in (task.support, task.query)
    )
    return result, (support, support if query is None else query)


def classes_read(function: Callable[[Task], Any], task: Task) -> tuple[int | None, int | None]:
    """The second of what `with_classes_read` gives, for a task of shapes."""
    found = []
    jax.eval_shape(lambda task: found.append(with_classes_read(function, task)[1]), task)
    return found[0]
