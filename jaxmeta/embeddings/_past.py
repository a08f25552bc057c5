"""Past classes as `meta_fit` is given them, and where their names lie among their rows."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxmeta.embeddings import _rows
from jaxmeta.embeddings._fit import in_space_of_rows
from jaxmeta.embeddings._theta import Theta

_FEWEST = 4
_SHARED = 0.2
"""From this mean cosine of a name with the rows of its class on, they are of one space."""

_RIDGES = (0.01, 0.1, 1.0, 10.0, 100.0)


def learn(
    estimator: Any,
    X: Any,
    y: Any,
    names: Mapping[Any, Any] | None,
    *,
    seed: int,
    num_steps: int,
    noise: float,
    verbose: bool,
) -> tuple[Theta, dict[str, Any]]:
    """Theta of past classes, and what it was learned from.

    Raises:
      ValueError: for what cannot be read, fewer than four classes of two rows, or no step.
    """
    if num_steps < 1:
        raise ValueError(f"meta_fit needs num_steps of 1 or more, got {num_steps}.")
    if not 0 <= noise <= 10:
        raise ValueError(f"meta_fit reads a noise of zero to ten, got {noise}.")
    vectors = _rows.read_names(names)
    x = _rows.read_rows(estimator, X, reset=True)
    labels = _rows.read_labels(y, len(x))
    classes, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    enough = counts >= 2
    if enough.sum() < _FEWEST:
        raise ValueError(
            f"meta_fit learns from {_FEWEST} classes or more of two rows or more each, got "
            f"{enough.sum()}: without it, fit uses what ships."
        )
    kept = enough[codes]
    codes = (np.cumsum(enough) - 1)[codes[kept]]
    x, classes = _rows.unit_rows(x[kept]), classes[enough]
    table, every, known = _names_of(classes, vectors, x, codes)
    from jaxmeta.embeddings import _meta_fit  # JAX, which `fit` does without

    say = print if verbose else _nothing
    head, calibration = _meta_fit.learn(
        x, codes, every, known, seed=seed, num_steps=num_steps, noise=noise, say=say
    )
    about = {"classes": len(classes), "rows": len(x), "features": x.shape[1]}
    about |= {"named": int(known.sum()), "seed": seed, "num_steps": num_steps, "noise": noise}
    return Theta(head, calibration, table), about


def _names_of(
    classes: np.ndarray, vectors: dict[Any, np.ndarray], x: np.ndarray, codes: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """How names get to the rows, where they lie then `[K, D]`, and which classes have one `[K]`."""
    labels = classes.tolist()
    named = {c: vectors[label] for c, label in enumerate(labels) if label in vectors}
    means = np.stack([x[codes == c].mean(axis=0) for c in range(len(classes))])
    table = names_to_rows(named, means)
    every, known = np.zeros_like(means), np.zeros(len(classes), np.float32)
    if named:
        every[list(named)] = in_space_of_rows(table, list(named.values()), x.shape[1])
        known[list(named)] = 1.0
    return table, every, known


def names_to_rows(named: dict[int, np.ndarray], means: np.ndarray) -> np.ndarray | None:
    """An affine map from names to means of classes, `[E + 1, D]`; None where they share a space.

    Ridge regression; its strength is the best of a few by leaving out a class at a time.

    Args:
      named: vectors `[E]` by the number of the class.
      means: of the rows of all classes `[K, D]`.
    """
    if not named:
        return None
    names = _rows.unit_rows(np.stack(list(named.values())), np.float64)
    targets = means[list(named)].astype(np.float64)
    centre, middle = names.mean(axis=0), targets.mean(axis=0)
    e, m = names - centre, targets - middle
    if e.shape[1] == m.shape[1] and _alike(e, m) >= _SHARED:
        return None
    gram = e @ e.T
    found = []
    for ridge in _RIDGES:
        hat = gram @ np.linalg.inv(gram + ridge * np.eye(len(e)))
        leverage = np.diag(hat)[:, None]
        found.append(_alike((hat @ m - leverage * m) / (1.0 - leverage), m))
    ridge = _RIDGES[int(np.argmax(found))]
    slope = e.T @ np.linalg.solve(gram + ridge * np.eye(len(e)), m)
    return np.concatenate([slope, (middle - centre @ slope)[None]]).astype(np.float32)


def _alike(a: np.ndarray, b: np.ndarray) -> float:
    a, b = _rows.unit_rows(a, np.float64), _rows.unit_rows(b, np.float64)
    return float((a * b).sum(axis=1).mean())


def _nothing(text: str) -> None:
    del text
