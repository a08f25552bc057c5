"""Few-shot episodes of labelled vectors, such as frozen features, with names of classes or not."""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxmeta._validation import check_positive
from jaxmeta.tasks._draws import draw_classes, draw_rows, rows_of_classes, saying
from jaxmeta.types import Array, Sampler, Task


def vector_episodes(
    x: ArrayLike,
    y: ArrayLike,
    *,
    ways: int = 5,
    shots: int | tuple[int, int] = 1,
    queries: int = 5,
    names: ArrayLike | None = None,
) -> Sampler:
    """A sampler of few-shot tasks from vectors and their classes, such as frozen features.

    Support and query share no row: they are cut from one permutation of the rows of a class.

    Args:
      x: features `[N, F]`, kept in half precision if they are so given, else in single.
      y: their classes `[N]`, of any type that can be sorted.
      ways: classes C of a task.
      shots: support rows of each class, or a range `(least, most)` from which each task draws its
        own; rows are padded to the most.
      queries: query rows of each class.
      names: an embedding of each class's name `[K, E]`, in the order of the sorted classes.

    Returns:
      `sampler(key) -> Task`: support `[C * shots, F]`, query `[C * queries, F]`, and as description
      the names of its classes `[C, E]`, or None. `sampler.classes(key)` says which of the sorted
      classes these are `[C]`, as that of `episodes` does.

    Raises:
      ValueError: if shapes do not fit, a count is below 1, or there are too few classes, or rows of
        a class.

    Example:
      >>> import jax
      >>> import numpy as np
      >>> from jaxmeta.tasks import vector_episodes
      >>> x, y = np.zeros((12, 4), np.float32), np.repeat(["a", "b", "c"], 4)
      >>> vector_episodes(x, y, ways=2, shots=1, queries=2)(jax.random.key(0)).query.x.shape
      (4, 4)
    """
    x, y = np.asarray(x), np.asarray(y)
    least, most = (shots, shots) if isinstance(shots, int) else shots
    classes, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
    check_positive(ways=ways, shots=least, queries=queries)
    _check(x, y, (least, most), None if names is None else len(np.asarray(names)))
    if ways > len(classes) or most + queries > counts.min():
        raise ValueError(
            f"vector_episodes was asked for {ways} classes of {most} + {queries} rows, but there "
            f"are {len(classes)} classes, and {classes[counts.argmin()]} has {counts.min()} rows."
        )
    # Rows of the first class, of the second, and so on.
    order = np.argsort(codes, kind="stable")
    first = np.cumsum(counts) - counts
    vectors = jnp.asarray(x[order], x.dtype if x.dtype == np.float16 else np.float32)
    described = None if names is None else jnp.asarray(names)
    pool = jnp.arange(len(classes))[None]

    def with_classes(key: Array) -> tuple[Task, Array]:
        class_key, size_key, row_key = jax.random.split(key, 3)
        chosen, _ = draw_classes(pool, np.array([len(classes)]), 1, ways, class_key)
        number = jnp.asarray(counts)[chosen]
        rows = draw_rows(row_key, number, int(counts.max()), most + queries)
        rows = vectors[jnp.asarray(first)[chosen][:, None] + rows].astype(jnp.float32)
        num_shots = jax.random.randint(size_key, (), least, most + 1)
        support = rows_of_classes(rows[:, :most], ways, num_shots)
        query = rows_of_classes(rows[:, most:], ways, queries)
        return Task(support, query, None if described is None else described[chosen]), chosen

    return saying(with_classes, np.zeros(len(classes), np.int32))


def _check(x: np.ndarray, y: np.ndarray, shots: tuple[int, int], num_names: int | None) -> None:
    """Refuse what is no table of labelled rows, or has names for other classes."""
    if x.ndim != 2 or y.shape != x.shape[:1] or shots[0] > shots[1] or not len(y):
        raise ValueError(
            f"vector_episodes reads x [N, F], y [N] and shots, or a range of them, got {x.shape}, "
            f"{y.shape} and {shots}."
        )
    if num_names not in (None, len(np.unique(y))):
        raise ValueError(f"names holds {num_names} rows for the {len(np.unique(y))} classes of y.")
