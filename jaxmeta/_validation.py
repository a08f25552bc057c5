"""Checks at the public boundary: a mistake becomes a sentence before anything is compiled.

Shapes and dtypes are checked always. Values are checked where they are known, that is, outside
of jit, vmap and grad; under those a function sees shapes only. There one can still ask
`violations` in the program itself, as `evaluate` and `transforms.checked` do.
"""

import contextlib
import contextvars
from collections.abc import Callable, Collection, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxmeta._jax_compat import is_concrete as is_known
from jaxmeta.types import Array, Examples, Task


def as_numpy(rows: Examples) -> Examples:
    """Rows whose values are known, in host memory."""
    leaves: Any = [np.asarray(leaf) for leaf in rows]
    return Examples(*leaves)


# Rows of one task


def check_examples(
    examples: Examples,
    name: str = "support",
    *,
    ways: int | None = None,
    takes_integers: bool = False,
    classes_for: str | None = None,
    may_be_empty: bool = False,
) -> None:
    """Raise ValueError unless `examples` are the well-formed rows of one task.

    Args:
      examples: rows of one task, no leading task axis.
      name: what to call them in the message.
      ways: number of classes, if `y` is to be classes below it.
      takes_integers: whether x may be of integers, such as token ids.
      classes_for: the name of a learner that knows classes only.
      may_be_empty: whether all rows may be padding, as in a history that has not begun.
    """
    _check_shapes(examples, name)
    x, y, mask = examples
    if not takes_integers:
        check_floating(x, f"The {name} inputs")
    if jnp.ndim(y) == 1 and not jnp.issubdtype(jnp.result_type(y), jnp.integer):
        raise ValueError(
            f"The {name} labels y [N] have dtype {jnp.result_type(y)}; classes are integers, and "
            "regression targets have shape [N, D]."
        )
    if classes_for is not None and jnp.ndim(y) != 1:
        raise ValueError(
            f"{classes_for} is for classes: y is integers [N], and got {jnp.result_type(y)} "
            f"{jnp.shape(y)}; of one-hot rows take y.argmax(axis=1), for targets use ridge or maml."
        )
    note_classes(y, ways)
    if is_known(x, y, mask):
        _check_values(as_numpy(examples), name, ways, but={"empty"} if may_be_empty else ())


def _check_shapes(examples: Examples, name: str) -> None:
    x, y, mask = examples
    if jnp.ndim(x) < 2 or jnp.ndim(mask) != 1 or jnp.ndim(y) not in (1, 2):
        raise ValueError(
            f"The {name} set must be x [N, ...], y [N] or [N, D] and mask [N], got shapes "
            f"{jnp.shape(x)}, {jnp.shape(y)} and {jnp.shape(mask)}. For a batch of tasks use "
            "jax.vmap; for one feature a row reshape x to [N, 1]."
        )
    num_rows = {"x": x.shape[0], "y": y.shape[0], "mask": mask.shape[0]}
    if len(set(num_rows.values())) > 1:
        raise ValueError(f"The {name} set has unequal numbers of rows: {num_rows}.")
    if not x.shape[0]:
        raise ValueError(f"The {name} set is empty; a task needs at least one row of it.")


def check_floating(x: Array, what: str = "The inputs x") -> None:
    """Raise ValueError unless x is floating-point."""
    if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
        raise ValueError(
            f"{what} have dtype {jnp.result_type(x)}; scale and cast them to floating "
            "point, for example x.astype('float32') / 255 for images."
        )


def check_inputs(x: Array, *, takes_integers: bool) -> None:
    """Raise ValueError unless x is rows `[N, ...]` that can be predicted, or embedded."""
    if jnp.ndim(x) < 2:
        raise ValueError(
            f"The inputs x are rows [N, ...], got shape {jnp.shape(x)}: one row is x[None], one "
            "feature a row x[:, None]."
        )
    if not takes_integers:
        check_floating(x)
    if is_known(x) and (infinite := int((~np.isfinite(np.asarray(x))).sum())):
        raise ValueError(
            f"The inputs x hold {infinite} values that are NaN or infinite; remove or impute them."
        )


# Values


def violations(rows: Examples, ways: int | None = None, xp: Any = jnp) -> dict[str, Array]:
    """Which rows break which rule, bool `[..., N]` by rule; rows may have leading axes of tasks.

    Args:
      rows: labelled rows; where the mask is 0 only the mask is looked at.
      ways: classes are below it; None for no limit.
      xp: `jax.numpy`, or `numpy` for values that are known.
    """
    x, y, mask = rows
    lead = mask.shape
    real, weight = mask.astype(bool), mask.astype(np.float32)
    one_target = y.ndim == len(lead)

    def any_of(values: Array, bad: Callable[[Array], Array]) -> Array:
        return bad(values).any(axis=tuple(range(len(lead), values.ndim))) & real

    def infinite(values: Array) -> Array:
        return ~xp.isfinite(values)

    found = {
        "mask": (weight != 0) & (weight != 1),
        "empty": xp.broadcast_to(~real.any(axis=-1, keepdims=True), lead),
        "inputs": any_of(x, infinite),
    }
    if not one_target:
        return found | {"targets": any_of(y, infinite)}
    classes = y.astype(np.int64 if xp is np else np.int32)
    beyond = xp.zeros_like(real) if ways is None else classes >= ways
    return found | {"labels": ((y < 0) | beyond) & real}


def _check_values(rows: Examples, name: str, ways: int | None, but: Collection[str] = ()) -> None:
    found = violations(rows, ways, np).items()
    broken = [rule for rule, where in found if where.any() and rule not in but]
    if not broken:
        return
    x, y, mask = rows
    real = mask.astype(bool)
    sentences = {
        "mask": lambda: (
            f"The {name} mask holds {mask[(mask != 0) & (mask != 1)][0]}; it is 1 for a real row "
            "and 0 for padding. Weigh rows in a loss of your own."
        ),
        "empty": lambda: f"The {name} set is empty: its mask is 0 in all {len(mask)} rows.",
        "inputs": lambda: (
            f"The {name} inputs hold {int((~np.isfinite(x[real])).sum())} values that are NaN or "
            "infinite; remove or impute them."
        ),
        "targets": lambda: f"The {name} targets hold NaN or infinite values; remove those rows.",
        "labels": lambda: (
            f"The {name} labels run from {y[real].min()} to {y[real].max()}, but classes must be "
            f"{_limit(ways)} in rows whose mask is 1."
        ),
    }
    raise ValueError(sentences[broken[0]]())


def _limit(ways: int | None) -> str:
    return "0 or more" if ways is None else f"in 0..{ways - 1} (ways={ways})"


def check_task(
    task: Task, *, support_ways: int | None = None, query_ways: int | None = None
) -> None:
    """Raise ValueError unless `task` is one well-formed task (no leading axis)."""
    check_examples(task.support, "support", ways=support_ways, takes_integers=True)
    check_examples(task.query, "query", ways=query_ways, takes_integers=True)
    support, query = task.support.x, task.query.x
    if jnp.shape(support)[1:] != jnp.shape(query)[1:]:
        raise ValueError(
            f"Support rows have shape {jnp.shape(support)[1:]}, query rows "
            f"{jnp.shape(query)[1:]}; they must be alike."
        )
    kinds = [jnp.issubdtype(jnp.result_type(x), jnp.floating) for x in (support, query)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"Support inputs have dtype {jnp.result_type(support)}, query inputs "
            f"{jnp.result_type(query)}; scale and cast both alike, for example "
            "x.astype('float32') / 255 for images."
        )


def check_positive(**counts: int) -> None:
    """Raise ValueError unless every named count is 1 or more."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be 1 or more, got {count}.")


# Labels, by those who know how many classes there are

_noted: contextvars.ContextVar[list | None] = contextvars.ContextVar("noted", default=None)


def note_classes(y: Array, ways: int | None) -> None:
    """Say to whoever is listening that labels y are read as classes below `ways`."""
    noted = _noted.get()
    if noted is not None and ways is not None:
        noted.append((y, ways))


@contextlib.contextmanager
def listening() -> Iterator[list[tuple[Array, int]]]:
    """Collect the `(y, ways)` that are noted inside of the block."""
    token = _noted.set(noted := [])
    try:
        yield noted
    finally:
        _noted.reset(token)


def check_labels(z: Array, y: Array, mask: Array, *, name: str) -> None:
    """Raise ValueError unless `z [N, C]` can be judged against classes `y [N]` by `mask [N]`."""
    if jnp.ndim(z) != 2 or jnp.ndim(y) != 1 or jnp.ndim(mask) != 1:
        raise ValueError(
            f"{name} reads z [N, C], classes y [N] and mask [N], got {jnp.shape(z)}, "
            f"{jnp.shape(y)} and {jnp.shape(mask)}; of one-hot rows take y.argmax(axis=1), for "
            "targets [N, D] use mean_squared_error."
        )
    if not z.shape[0] == y.shape[0] == mask.shape[0]:
        raise ValueError(
            f"{name} got unequal numbers of rows: z {z.shape}, y {y.shape}, mask {mask.shape}."
        )
    if not jnp.issubdtype(jnp.result_type(y), jnp.integer):
        raise ValueError(f"{name} reads classes, which are integers; y is {jnp.result_type(y)}.")
    note_classes(y, z.shape[1])
    if is_known(y, mask):
        _check_known_labels(y, mask, z.shape[1], name)


def labels_alone(y: Array, mask: Array) -> Examples:
    """Rows of which the labels are to be looked at and there are no inputs."""
    nothing: Any = np.zeros((y.shape[0], 1), np.float32)
    return Examples(nothing, y, mask)


def _check_known_labels(y: Array, mask: Array, ways: int, name: str) -> None:
    rows = as_numpy(labels_alone(y, mask))
    for rule in ("mask", "labels"):
        if violations(rows, ways, np)[rule].any():
            _check_values(rows, name, ways)
