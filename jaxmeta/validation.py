"""Checks at the public boundary: a mistake becomes a sentence before anything is compiled.

Shapes and dtypes are checked always. Values are checked where they are known, that is, outside
of jit, vmap and grad; under those a function sees shapes only.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.types import Examples, Task


def check_examples(examples: Examples, name: str = "support", *, ways: int | None = None) -> None:
    """Raise ValueError unless `examples` are the well-formed rows of one task.

    Args:
      examples: rows of one task, no leading task axis.
      name: what to call them in the message.
      ways: number of classes, if `y` is to be classes below it.
    """
    x, y, mask = examples
    if jnp.ndim(x) < 2 or jnp.ndim(mask) != 1 or jnp.ndim(y) not in (1, 2):
        raise ValueError(
            f"The {name} set must be x [N, ...], y [N] or [N, D] and mask [N], got shapes "
            f"{jnp.shape(x)}, {jnp.shape(y)} and {jnp.shape(mask)}. For a batch of tasks use "
            "jax.vmap; for one feature a row reshape x to [N, 1]."
        )
    num_rows = {"x": len(x), "y": len(y), "mask": len(mask)}
    if len(set(num_rows.values())) > 1:
        raise ValueError(f"The {name} set has unequal numbers of rows: {num_rows}.")
    if not len(x):
        raise ValueError(f"The {name} set is empty; a task needs at least one row of it.")
    if not jnp.issubdtype(jnp.result_type(x), jnp.floating):
        raise ValueError(
            f"The {name} inputs have dtype {jnp.result_type(x)}; scale and cast them to floating "
            "point, for example x.astype('float32') / 255 for images."
        )
    if jnp.ndim(y) == 1 and not jnp.issubdtype(jnp.result_type(y), jnp.integer):
        raise ValueError(
            f"The {name} labels y [N] have dtype {jnp.result_type(y)}; classes are integers, and "
            "regression targets have shape [N, D]."
        )
    if not any(isinstance(leaf, jax.core.Tracer) for leaf in (x, y, mask)):
        _check_values(examples, name, ways)


def _check_values(examples: Examples, name: str, ways: int | None) -> None:
    x, y, mask = (np.asarray(leaf) for leaf in examples)
    real = mask > 0
    if not real.any():
        raise ValueError(f"The {name} set is empty: its mask is 0 in all {len(mask)} rows.")
    if not np.isfinite(x[real].astype(np.float64)).all():
        bad = int((~np.isfinite(x[real].astype(np.float64))).sum())
        raise ValueError(
            f"The {name} inputs hold {bad} values that are NaN or infinite; remove or impute them."
        )
    if y.ndim == 2:
        if not np.isfinite(y[real].astype(np.float64)).all():
            raise ValueError(f"The {name} targets hold NaN or infinite values; remove those rows.")
    elif y[real].min() < 0 or (ways is not None and y[real].max() >= ways):
        limit = "0 or more" if ways is None else f"in 0..{ways - 1} (ways={ways})"
        raise ValueError(
            f"The {name} labels run from {y[real].min()} to {y[real].max()}, but classes must be "
            f"{limit} in rows whose mask is 1."
        )


def check_task(task: Task) -> None:
    """Raise ValueError unless `task` is one well-formed task (no leading axis)."""
    check_examples(task.support, "support")
    check_examples(task.query, "query")
    if jnp.shape(task.support.x)[1:] != jnp.shape(task.query.x)[1:]:
        raise ValueError(
            f"Support rows have shape {jnp.shape(task.support.x)[1:]}, query rows "
            f"{jnp.shape(task.query.x)[1:]}; they must be alike."
        )


def check_positive(**counts: int) -> None:
    """Raise ValueError unless every named count is 1 or more."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be 1 or more, got {count}.")
