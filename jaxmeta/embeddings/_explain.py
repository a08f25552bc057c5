"""A fitted head in words."""

import numpy as np

from jaxmeta.embeddings._fit import Support
from jaxmeta.embeddings._rows import unit_rows

_SHOWN = 3  # weights a class


def page(classes: np.ndarray, kernel: np.ndarray, support: Support) -> str:
    """A line a class: what it was told by, which class is nearest, and its heaviest weights."""
    directions = unit_rows(kernel, np.float64)
    alike = directions @ directions.T - 3.0 * np.eye(len(kernel))
    counts = np.bincount(support.codes, minlength=len(classes))
    live = np.count_nonzero(kernel)
    lines = [f"{len(classes)} classes, {live} of {kernel.size} weights live."]
    for c, label in enumerate(classes):
        told = f"{counts[c]} row{'' if counts[c] == 1 else 's'}" + " and a name" * int(
            support.known[c]
        )
        nearest = alike[c].argmax()
        heaviest = np.argsort(-np.abs(kernel[c]), kind="stable")[:_SHOWN]
        entries = ", ".join(f"{kernel[c, i]:+.2f} x[{i}]" for i in heaviest if kernel[c, i])
        lines.append(
            f"{label}: {told}; nearest {classes[nearest]} (cosine {alike[c, nearest]:.2f}); "
            f"{np.count_nonzero(kernel[c])} live: {entries or 'none'}"
        )
    return "\n".join(lines)
