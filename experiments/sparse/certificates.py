"""Certified errors of sparse w: Occam's bound on tasks with many rows, beside the true error.

A task is to tell some unseen characters apart. Its rows are drawn with replacement from all
drawings of these, so the bound is on the error over just these drawings, which is known.
The code is fixed before the task: which entries of w are not zero, and their values in 8 bits.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.documents import as_percent
from experiments.common.documents import table as as_table
from experiments.sparse.learners import Entry, sized
from jaxmeta import Examples, sparsity
from jaxmeta.evaluation import occam_bound

LEARNERS = ("hypernet", "prototypes", "ridge")
"""Whose w is small; that of matching holds the rows, that of maml all weights of a network."""


def tasks_of_many_rows(
    vectors: np.ndarray, *, ways: int, rows: int, tasks: int, seed: int
) -> list[tuple[Examples, Examples]]:
    """Tasks of some characters each: rows drawn with replacement, and all drawings of these.

    Args:
      vectors: class-indexed `[K, M, F]`.
      ways: characters of a task.
      rows: to be drawn.
      tasks: how many.
      seed: of all draws.
    """
    rng, found = np.random.default_rng(seed), []
    y = np.repeat(np.arange(ways), vectors.shape[1])
    for _ in range(tasks):
        x = vectors[rng.choice(len(vectors), ways, replace=False)].reshape(len(y), -1)
        drawn = rng.integers(len(x), size=rows)
        found.append((_examples(x[drawn], y[drawn]), _examples(x, y)))
    return found


def _examples(x: np.ndarray, y: np.ndarray) -> Examples:
    return Examples(jnp.asarray(x), jnp.asarray(y, jnp.int32), jnp.ones(len(y)))


def certify(
    entries: dict[str, Entry],
    thetas: dict[str, Any],
    tasks: list[tuple[Examples, Examples]],
    shares: tuple[float, ...],
) -> list[dict[str, Any]]:
    """A row for each learner and share: the means over tasks of bits, errors and the bound."""
    rows = []
    for name in (each for each in LEARNERS if each in thetas):
        errors_of = _errors(entries[name])
        for share in shares:
            found = [errors_of(thetas[name], jnp.float32(share), *task) for task in tasks]
            bounds = [occam_bound(seen, bits, len(tasks[0][0].y)) for bits, seen, _ in found]
            bits, seen, true = np.mean(found, axis=0)
            row = {"learner": name, "share": share, "bits": bits, "error": seen}
            row |= {"true_error": true, "bound": np.mean(bounds)}
            rows.append(row | {"rows": len(tasks[0][0].y), "num_tasks": len(tasks)})
    return rows


def _errors(entry: Entry) -> Callable[..., tuple[float, float, float]]:
    """Bits, error on the rows adapted to, and on all, of `(theta, share, support, everything)`."""
    learner = sized(entry)

    @jax.jit
    def run(theta: Any, share: jax.Array, support: Examples, everything: Examples):
        both = theta, share
        w = sparsity.rounded(learner.adapt(both, support))
        wrong = [
            (learner.predict(both, w, each.x).argmax(axis=1) != each.y).mean()
            for each in (support, everything)
        ]
        return w, wrong

    def errors(*args: Any) -> tuple[float, float, float]:
        w, (seen, true) = run(*args)
        return sparsity.description_bits(w), float(seen), float(true)

    return errors


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text, after what they are."""
    if not rows:
        return ""
    head = f"\n95% bounds on the error, adapted to {rows[0]['rows']} rows:\n"
    return head + as_table(
        [
            {
                "learner": row["learner"],
                "share": f"{row['share']:.2f}",
                "bits": f"{row['bits']:.0f}",
                "error on the rows %": as_percent(row["error"], digits=1),
                "true error %": as_percent(row["true_error"], digits=1),
                "certified error %": as_percent(row["bound"], digits=1),
            }
            for row in rows
        ]
    )
