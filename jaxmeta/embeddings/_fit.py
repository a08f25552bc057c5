"""From rows, labels and names to a head, in NumPy."""

import math
from typing import Any, NamedTuple

import numpy as np

from jaxmeta.embeddings import _formula, _rows
from jaxmeta.embeddings._formula import Head, HeadTheta
from jaxmeta.embeddings._theta import Theta


class Support(NamedTuple):
    """What a task is fitted to. S rows, C classes.

    Attributes:
      classes: labels, sorted `[C]`.
      x: rows of unit length `[S, D]`.
      codes: their classes `[S]`.
      names: of unit length, zeros for none `[C, D]`.
      known: 1 where a class has a name `[C]`.
    """

    classes: np.ndarray
    x: np.ndarray
    codes: np.ndarray
    names: np.ndarray
    known: np.ndarray

    @property
    def shots(self) -> float:
        """Rows a class, on average."""
        return len(self.x) / len(self.classes)


def support_of(
    theta: Theta,
    x: np.ndarray,
    labels: np.ndarray,
    names: dict[Any, np.ndarray],
    before: Support | None = None,
) -> Support:
    """The support set of rows `[N, D]`, their labels, and names; with what was there before.

    Raises:
      ValueError: for fewer than two classes, or names of another size.
    """
    x = _rows.unit_rows(x)
    vectors = in_space_of_rows(theta.names, list(names.values()), x.shape[1])
    labels = labels.tolist()
    old = [] if before is None else before.classes.tolist()
    classes = _rows.all_labels(labels, list(names), old)
    if len(classes) < 2:
        raise ValueError(
            f"FewShotClassifier needs two classes or more, got one class, {classes}: give rows or "
            "the name of another."
        )
    place = {label: c for c, label in enumerate(classes.tolist())}
    codes = np.array([place[label] for label in labels], int)
    every, known = np.zeros((len(classes), x.shape[1]), np.float32), np.zeros(len(classes))
    if names:
        named = [place[label] for label in names]
        every[named], known[named] = vectors, 1.0
    if before is not None:
        moved = np.array([place[label] for label in old])
        every[moved], known[moved] = before.names, before.known
        x = np.concatenate([before.x, x])
        codes = np.concatenate([moved[before.codes], codes])
    return Support(classes, x, codes, every, known.astype(np.float32))


def in_space_of_rows(table: np.ndarray | None, names: list[np.ndarray], size: int) -> np.ndarray:
    """Vectors of names in the space of rows of D features, of unit length `[C, D]`.

    Raises:
      ValueError: for names of another size than D, unless a table `[E + 1, D]` leads there.
    """
    if not names:
        return np.zeros((0, size), np.float32)
    vectors = _rows.unit_rows(np.concatenate(names).reshape(len(names), -1))
    if table is not None:
        if (vectors.shape[1] + 1, size) != table.shape:
            raise ValueError(
                f"Names of {vectors.shape[1]} numbers and rows of {size} are not what meta_fit "
                f"read: names of {len(table) - 1} and rows of {table.shape[1]}."
            )
        return _rows.unit_rows(vectors @ table[:-1] + table[-1])
    if vectors.shape[1] != size:
        raise ValueError(
            f"Names have {vectors.shape[1]} numbers and rows {size}: embed both alike, or call "
            "meta_fit with names, which learns where such names lie among rows."
        )
    return vectors


def solve(theta: HeadTheta, support: Support, density: float | None) -> Head:
    """The head of a support set, with so large a share of weights that are not zero."""
    members = np.zeros((len(support.x), len(support.classes)), np.float32)
    members[np.arange(len(support.x)), support.codes] = 1.0
    single = HeadTheta(*(np.float32(value) for value in theta))
    head = _formula.emit(np, single, support.x, members, support.names, support.known)
    if density is None:
        return head
    kept = max(1, math.ceil(density * head.kernel.size))
    order = np.argsort(-np.abs(head.kernel), axis=None, kind="stable")
    sparse = np.zeros_like(head.kernel)
    sparse.flat[order[:kept]] = head.kernel.flat[order[:kept]]
    return head._replace(kernel=sparse)
