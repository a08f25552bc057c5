"""Assays as binary tasks: a few actives and inactives to adapt to, the rest to be judged on."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.molecules.assays import UNKNOWN, Assays, generator
from jaxmeta.types import Array, Examples, Task


class Table(NamedTuple):
    """What learners read of molecules, in bytes.

    Attributes:
      x: of each molecule its fingerprint, then of each column 0 for unknown, 1 for inactive and 2
        for active `[N, 256 + K]` uint8.
      columns: the assays of the columns `[K]`.
      label: of all assays `[N, A]`.
      rows: the molecules that tasks are made of.
    """

    x: np.ndarray
    columns: np.ndarray
    label: np.ndarray
    rows: np.ndarray


class Pool(NamedTuple):
    """Assays to draw training tasks of, as arrays: one compiled program serves many pools.

    Attributes:
      x: as of a `Table`.
      columns: likewise.
      rows: of each assay its inactive and its active molecules, padded `[P, 2, M]`.
      counts: how many of them there are `[P, 2]`.
      assays: `[P]`.
      number: how many of these are drawn, the first ones.
      dropped: the share of bits and of columns that a task does without.
    """

    x: Array
    columns: Array
    rows: Array
    counts: Array
    assays: Array
    number: Array
    dropped: Array


def table_of(data: Assays, columns: np.ndarray, known: np.ndarray, rows: np.ndarray) -> Table:
    """The table of some molecules; the columns of assays that are not known are blank."""
    codes = (data.label[:, columns] + 1).astype(np.uint8)
    codes *= np.isin(columns, known).astype(np.uint8)
    return Table(np.concatenate([data.bits, codes], axis=1), columns, data.label, rows)


def members(table: Table, assay: int) -> tuple[np.ndarray, np.ndarray]:
    """Its inactive molecules, and its active ones."""
    of = table.label[table.rows, assay]
    return table.rows[of == 0], table.rows[of == 1]


def can_serve(table: Table, assays: np.ndarray, shots: int) -> np.ndarray:
    """Those assays with more than `shots` molecules of either label."""
    few = [min(map(len, members(table, assay))) for assay in assays]
    return np.asarray(assays)[np.asarray(few, int) > shots]


def pool_of(table: Table, assays: np.ndarray, shape: tuple[int, int], dropped: float) -> Pool:
    """The pool of some assays, padded to so many assays and molecules."""
    rows, counts = np.zeros((shape[0], 2, shape[1]), np.int32), np.zeros((shape[0], 2), np.int32)
    for n, assay in enumerate(assays):
        for label, of in enumerate(members(table, assay)):
            rows[n, label, : len(of)], counts[n, label] = of, len(of)
    padded = np.pad(assays, (0, shape[0] - len(assays)), constant_values=UNKNOWN)
    arrays = (table.x, table.columns, rows, counts, padded, np.int32(len(assays)))
    return Pool(*(jnp.asarray(each) for each in (*arrays, np.float32(dropped))))


def draw(pool: Pool, key: Array, *, shots: int, queries: int) -> Task:
    """A training task of one assay, with `queries` of either label, or as many as there are.

    The labels of its own assay are blank in it, and so are all of a column that is dropped; of the
    fingerprints of a task a share of the bits is dropped too.
    """
    assay_key, row_key, drop_key, bit_key = jax.random.split(key, 4)
    n = jax.random.randint(assay_key, (), 0, pool.number)
    noise = jax.random.uniform(row_key, pool.rows.shape[1:])
    noise = jnp.where(jnp.arange(noise.shape[1])[None] < pool.counts[n][:, None], noise, -1.0)
    drawn, place = jax.lax.top_k(noise, min(shots + queries, noise.shape[1]))
    picked = jnp.take_along_axis(pool.rows[n], place, axis=1)
    keep = jax.random.bernoulli(drop_key, 1 - pool.dropped, pool.columns.shape)
    keep &= pool.columns != pool.assays[n]
    bits = (pool.x.shape[1] - len(pool.columns), 8)
    bits = jax.random.bernoulli(bit_key, 1 - pool.dropped, bits)
    kept = jnp.concatenate(
        [jnp.packbits(bits, axis=1)[:, 0], jnp.where(keep, 255, 0).astype(jnp.uint8)]
    )
    x = pool.x[picked] & kept[None, None]
    y = jnp.broadcast_to(jnp.arange(2)[:, None], picked.shape)
    rows = Examples(x, y, (drawn >= 0).astype(jnp.float32))
    support = jax.tree.map(lambda a: _flat(a[:, :shots]), rows)
    return Task(support, jax.tree.map(lambda a: _flat(a[:, shots:]), rows))


def _flat(a: Array) -> Array:
    return a.reshape(-1, *a.shape[2:])


def draws(table: Table, assay: int, *, shots: int, count: int, most: int, seed: int) -> Task:
    """A batch of tasks of one assay: `shots` molecules of either label, and all others to judge.

    Query rows are padded to `most`, so that assays share one compiled program; of more than these
    a half, or all that there are, are active, and the rest is inactive.
    """
    found = []
    for n in range(count):
        rng = generator(seed, int(assay), n)
        none, some = (rng.permutation(of) for of in members(table, assay))
        support = np.concatenate([none[:shots], some[:shots]])
        none, some = none[shots:], some[shots:]
        if len(none) + len(some) > most:
            some = some[: most // 2]
        query = np.concatenate([some, none])[:most]
        found.append(
            Task(_examples(table, assay, support, 2 * shots), _examples(table, assay, query, most))
        )
    return jax.tree.map(lambda *leaves: np.stack(leaves), *found)


def _examples(table: Table, assay: int, rows: np.ndarray, size: int) -> Examples:
    spare = size - len(rows)
    x: Any = np.pad(table.x[rows], ((0, spare), (0, 0)))
    y: Any = np.pad(table.label[rows, assay].astype(np.int32), (0, spare))
    mask: Any = (np.arange(size) < len(rows)).astype(np.float32)
    return Examples(x, y, mask)


def auc(z: Array, y: Array, mask: Array) -> Array:
    """The area under the ROC curve of `z [N, 2]`: an active before an inactive, ties by half."""
    score = z[:, 1] - z[:, 0]
    active, inactive = (jnp.where(y == label, mask, 0.0) for label in (1, 0))
    ordered = jnp.sort(jnp.where(inactive > 0, score, jnp.inf))
    below = jnp.searchsorted(ordered, score, side="left")
    up_to = jnp.searchsorted(ordered, score, side="right")
    wins = 0.5 * (below + up_to).astype(active.dtype) * active
    return wins.sum() / (active.sum() * inactive.sum())
