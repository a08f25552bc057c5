"""How long rows take that join `w` one by one, against one `adapt` of all of them."""

import statistics
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.documents import table
from experiments.timing.machine import seconds_of
from jaxmeta import Examples, MetaLearner, Task, learners, networks

WAYS, FEATURES = 5, 64


def learners_of(num_rows: int) -> Iterator[tuple[str, MetaLearner, bool]]:
    """Learners that can be extended: name, learner, and whether it is given targets."""
    net = networks.mlp([FEATURES, FEATURES])
    kept = {"ways": WAYS, "capacity": num_rows}
    yield "prototypes", learners.prototypes(net, ways=WAYS), False
    yield "prototypes, cosine", learners.prototypes(net, ways=WAYS, distance="cosine"), False
    yield "nearest centroid", learners.transfer(net, num_classes=WAYS, ways=WAYS), False
    yield "neural process", learners.neural_process(net), True
    yield "recurrent", learners.recurrent(net, ways=WAYS), False
    yield "ridge", learners.ridge(net, ways=WAYS, extendable=True), False
    yield "ridge, targets", learners.ridge(net, extendable=True), True
    yield "hypernet", learners.hypernet(net, out_size=WAYS, extendable=True), False
    yield "matching", learners.matching(net, **kept), False
    yield "nearest neighbour", learners.nearest_neighbour(**kept), False
    yield "in-context", learners.in_context(net, **kept), False


def measure(num_rows: int, rounds: int) -> list[dict[str, Any]]:
    """A row a learner: medians of the pairs, and their ratio.

    Args:
      num_rows: how many join, all in one compiled scan.
      rounds: pairs of one `adapt` and one scan, in turns.
    """
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(num_rows, FEATURES)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, WAYS, num_rows), jnp.int32)
    targets = jnp.asarray(rng.normal(size=(num_rows, 1)), jnp.float32)
    found = []
    for name, learner, regression in learners_of(num_rows):
        rows = Examples(x, targets if regression else labels, jnp.ones(num_rows))
        theta = learner.init(jax.random.key(0), Task(rows, rows))
        found.append({"learner": name} | _times(learner, theta, rows, rounds))
    return found


def _times(learner: MetaLearner, theta: Any, rows: Examples, rounds: int) -> dict[str, float]:
    extend = learner.extend
    assert extend is not None

    def one(w: Any, row: Examples) -> tuple[Any, None]:
        return extend(theta, w, jax.tree.map(lambda leaf: leaf[None], row)), None

    adapt = jax.jit(lambda rows: learner.adapt(theta, rows))
    # A w of no rows yet has the shapes of any other.
    blank = jax.tree.map(jnp.zeros_like, adapt(rows))
    scan = jax.jit(lambda rows: jax.lax.scan(one, blank, rows)[0])
    jax.block_until_ready(scan(rows))
    whole, single = [], []
    for _ in range(rounds):
        whole.append(statistics.median(seconds_of(lambda: adapt(rows), 0.05)))
        single.append(statistics.median(seconds_of(lambda: scan(rows), 0.05)))
    ratios = [b / a for a, b in zip(whole, single, strict=True)]
    return {
        "adapt_ms": 1e3 * statistics.median(whole),
        "extend_ms": 1e3 * statistics.median(single),
        "ratio": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
    }


def as_text(rows: list[dict[str, Any]], num_rows: int) -> str:
    """The rows as a table."""
    cells = [
        {
            "learner": row["learner"],
            "adapt, ms": f"{row['adapt_ms']:.2f}",
            "extends, ms": f"{row['extend_ms']:.2f}",
            "ratio": f"{row['ratio']:.1f} ({row['least']:.1f} to {row['most']:.1f})",
        }
        for row in rows
    ]
    return (
        f"One adapt of {num_rows} rows, and {num_rows} single rows by extend in one scan; medians\n"
        f"of pairs, and the range of their ratios:\n{table(cells)}"
    )
