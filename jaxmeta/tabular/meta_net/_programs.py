"""From a trained meta-net to what the estimator runs, which waits for no compiler."""

import io
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta import checkpoint
from jaxmeta._files import write_atomically
from jaxmeta.export import numpy_program
from jaxmeta.tabular._arrays import FEATURES, MOST_CLASSES, MOST_COLUMNS, ROWS
from jaxmeta.tabular.meta_net._learner import tabular
from jaxmeta.tabular.meta_net._tables import table_description, table_examples
from jaxmeta.types import Examples, PyTree, Task


def write_programs(path: Path | str, trained: Path | str) -> None:
    """Write `adapt` of a trained meta-net as programs that NumPy runs, one a size of table.

    Args:
      path: the file to write, `.npz`; in `jaxmeta/tabular/weights`, `MetaClassifier` reads it.
      trained: a checkpoint of theta, of `tabular` with the settings that it has by default.

    Raises:
      ValueError: if theta was trained on other features of a table than this code computes.
    """
    theta = restore(Path(trained))
    learner = tabular(ways=MOST_CLASSES)

    def adapt(theta: PyTree, support: Examples, description: PyTree) -> PyTree:
        return learner.adapt(theta, support, description=description)

    arrays = {f"theta_{i:02d}": leaf for i, leaf in enumerate(jax.tree.leaves(theta))}
    arrays["features"] = np.int32(FEATURES)
    description = table_description(np.zeros(0, bool), columns=MOST_COLUMNS)
    for rows in ROWS:
        none = np.zeros((0, 1)), np.zeros(0, np.int32)
        support = table_examples(*none, rows=rows, columns=MOST_COLUMNS)
        text = numpy_program(adapt, theta, support, description)
        arrays[f"adapt_{rows}"] = np.frombuffer(text.encode(), np.uint8)
    file = io.BytesIO()
    np.savez_compressed(file, **jax.device_get(arrays))
    write_atomically(Path(path), file.getvalue())


def restore(file: Path) -> PyTree:
    """Theta of a checkpoint of `tabular` with the settings that it has by default."""
    trained_on = checkpoint.read_config(file).get("features", 1)
    if trained_on != FEATURES:
        raise ValueError(
            f"{file} was trained on version {trained_on} of the features of a table, this jaxmeta "
            f"computes version {FEATURES}: install the jaxmeta that it was trained with, or train "
            "again (experiments.tabular_pretrain)."
        )
    row = Examples(jnp.zeros((1, 2, 1)), jnp.zeros(1, jnp.int32), jnp.ones(1))
    shapes = jax.eval_shape(tabular().init, jax.random.key(0), Task(row, row))
    return checkpoint.restore(file, shapes)
