"""Running the pre-trained meta-net on NumPy tables, at a few static sizes."""

import functools
from importlib import resources
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta import checkpoint
from jaxmeta.tabular.meta_net import (
    FEATURES,
    EmittedTable,
    TableDescription,
    table_description,
    table_examples,
    tabular,
)
from jaxmeta.types import Examples, PyTree, Task

MOST_ROWS, MOST_COLUMNS, MOST_CLASSES = 256, 20, 5
# A table is padded to the next of these sizes, each of which is compiled when first needed.
ROWS = (32, 100, MOST_ROWS)


def emit(theta: PyTree, x: np.ndarray, y: np.ndarray, categorical: np.ndarray, num_terms: int):
    """`w` of a table `x [S, D]`, NaN where missing, with classes `y [S]`, all of them present.

    S, D and C are at most `MOST_ROWS`, `MOST_COLUMNS` and `MOST_CLASSES`.
    """
    num_rows = next(size for size in ROWS if size >= len(y))
    support = table_examples(x, y, rows=num_rows, columns=MOST_COLUMNS)
    description = table_description(categorical, columns=MOST_COLUMNS, num_terms=num_terms)
    w = _compiled()(theta, support, description)
    return jax.device_get(w)


@functools.cache
def _compiled():
    learner = tabular(ways=MOST_CLASSES)

    @jax.jit
    def run(theta: PyTree, support: Examples, description: TableDescription) -> EmittedTable:
        return learner.adapt(theta, support, description=description)

    return run


@functools.cache
def pretrained() -> PyTree:
    """Read theta of the meta-net that ships with the package (experiments/tabular_pretrain.py)."""
    row = Examples(jnp.zeros((1, 2, 1)), jnp.zeros(1, jnp.int32), jnp.ones(1))
    shapes = jax.eval_shape(tabular().init, jax.random.key(0), Task(row, row))
    with resources.as_file(resources.files("jaxmeta.tabular") / "weights" / "tabular.ckpt") as file:
        check_features(file)
        return checkpoint.restore(file, shapes)


def check_features(file: Path) -> None:
    """Refuse weights that were trained on other features of a table than this code computes.

    Raises:
      ValueError: if they were, or if there is no checkpoint.
    """
    trained_on = checkpoint.read_config(file).get("features", 1)
    if trained_on != FEATURES:
        raise ValueError(
            f"{file} was trained on version {trained_on} of the features of a table, this jaxmeta "
            f"computes version {FEATURES}: install the jaxmeta that it was trained with, or train "
            "again (experiments.tabular_pretrain)."
        )
