"""Assays as binary tasks: a few actives and inactives to adapt to, the rest to be judged on."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.molecules.assays import UNKNOWN, Assays
from jaxmeta.types import Array, Examples, Sampler, Task


class Table(NamedTuple):
    """What learners read of molecules, in bytes.

    Attributes:
      x: of each molecule its fingerprint, then of each known assay 0 for unknown, 1 for inactive
        and 2 for active `[N, 256 + K]` uint8.
      known: the assays that are read so `[K]`.
      label: of the assays `[N, A]`.
      rows: the molecules that tasks are made of.
    """

    x: np.ndarray
    known: np.ndarray
    label: np.ndarray
    rows: np.ndarray


def table_of(data: Assays, known: np.ndarray, rows: np.ndarray) -> Table:
    """The table of some molecules, with their labels under some assays as part of the input."""
    codes = (data.label[:, known] + 1).astype(np.uint8)
    return Table(np.concatenate([data.bits, codes], axis=1), known, data.label, rows)


def members(table: Table, assay: int) -> tuple[np.ndarray, np.ndarray]:
    """Its inactive molecules, and its active ones."""
    of = table.label[table.rows, assay]
    return table.rows[of == 0], table.rows[of == 1]


def can_serve(table: Table, assays: np.ndarray, shots: int) -> np.ndarray:
    """Those assays with more than `shots` molecules of either label."""
    few = [min(map(len, members(table, assay))) for assay in assays]
    return np.asarray(assays)[np.asarray(few, int) > shots]


def training_tasks(
    table: Table, assays: np.ndarray, *, shots: int, queries: int, dropped: float
) -> Sampler:
    """Tasks of some assays, drawn on the device; `queries` of either label, or as many as there are.

    The labels of the assay that a task is of are unknown in it, and so are all of an assay that is
    dropped. Of the fingerprints of a task a share of the bits is dropped too.
    """
    lists = [of for assay in assays for of in members(table, assay)]
    counts = jnp.asarray([len(of) for of in lists]).reshape(-1, 2)
    most = max(len(of) for of in lists)
    wanted = min(shots + queries, most)
    rows = np.stack([np.pad(of, (0, most - len(of))) for of in lists]).reshape(-1, 2, most)
    x, rows = jnp.asarray(table.x), jnp.asarray(rows)
    columns = jnp.asarray(table.known)
    num_bytes = x.shape[1] - len(table.known)
    targets = jnp.asarray(assays)

    def sampler(key: Array) -> Task:
        assay_key, row_key, drop_key, bit_key = jax.random.split(key, 4)
        n = jax.random.randint(assay_key, (), 0, len(targets))
        noise = jax.random.uniform(row_key, (2, most))
        noise = jnp.where(jnp.arange(most) < counts[n][:, None], noise, -1.0)
        drawn, place = jax.lax.top_k(noise, wanted)
        picked = jnp.take_along_axis(rows[n], place, axis=1)
        keep = jax.random.bernoulli(drop_key, 1 - dropped, columns.shape) & (columns != targets[n])
        bits = jax.random.bernoulli(bit_key, 1 - dropped, (num_bytes, 8))
        kept = jnp.concatenate([jnp.packbits(bits, axis=1)[:, 0], jnp.where(keep, 255, 0)])
        molecules = x[picked] & kept.astype(jnp.uint8)
        real = (drawn >= 0).astype(jnp.float32)
        y = jnp.broadcast_to(jnp.arange(2)[:, None], picked.shape)
        cut = [jax.tree.map(lambda a: _flat(a[:, :shots]), (molecules, y, real))]
        cut += [jax.tree.map(lambda a: _flat(a[:, shots:]), (molecules, y, real))]
        return Task(*(Examples(*each) for each in cut))

    return sampler


def _flat(a: Array) -> Array:
    return a.reshape(-1, *a.shape[2:])


def draws(table: Table, assay: int, *, shots: int, count: int, most: int, seed: int) -> Task:
    """A batch of tasks of one assay: `shots` molecules of either label, and all others to judge.

    Query rows are padded to `most`, so that assays share one compiled program.
    """
    found = []
    for n in range(count):
        rng = np.random.default_rng((seed, assay, n))
        none, some = (rng.permutation(of) for of in members(table, assay))
        support = np.concatenate([none[:shots], some[:shots]])
        query = np.concatenate([none[shots:], some[shots:]])
        found.append(
            Task(_examples(table, assay, support, 2 * shots), _examples(table, assay, query, most))
        )
    return jax.tree.map(lambda *leaves: np.stack(leaves), *found)


def most_queries(table: Table, assays: np.ndarray, shots: int) -> int:
    """The most query rows that a task of these assays has."""
    known = table.label[table.rows][:, assays] != UNKNOWN
    return int(known.sum(axis=0).max()) - 2 * shots


def _examples(table: Table, assay: int, rows: np.ndarray, size: int) -> Examples:
    spare = size - len(rows)
    x = np.pad(table.x[rows], ((0, spare), (0, 0)))
    y = np.pad(table.label[rows, assay].astype(np.int32), (0, spare))
    return Examples(x, y, (np.arange(size) < len(rows)).astype(np.float32))


def auc(z: Array, y: Array, mask: Array) -> Array:
    """The area under the ROC curve of `z [N, 2]`: an active before an inactive, ties by half."""
    score = z[:, 1] - z[:, 0]
    active, inactive = (mask * (y == label) for label in (1, 0))
    ordered = jnp.sort(jnp.where(inactive > 0, score, jnp.inf))
    below = jnp.searchsorted(ordered, score, side="left")
    up_to = jnp.searchsorted(ordered, score, side="right")
    wins = 0.5 * (below + up_to) * active
    return wins.sum() / (active.sum() * inactive.sum())
