"""Features of classes that are drawn: means on a sphere, rows around them, names near them."""

import numpy as np


def classes(num_classes=12, rows=20, size=16, spread=0.8, vague=0.7, seed=0):
    """Rows `[N, D]`, labels `[N]` and names by label."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(num_classes, size))
    x = (means[:, None] + spread * rng.normal(size=(num_classes, rows, size))).reshape(-1, size)
    labels = np.array([f"class {c:02d}" for c in range(num_classes)])
    named = means + vague * rng.normal(size=means.shape)
    return x, np.repeat(labels, rows), dict(zip(labels.tolist(), named, strict=True))


def task(ways=4, shots=3, rows=20, seed=0, **options):
    """A task of new classes: rows to fit to and their labels, names, and rows to judge on."""
    x, y, names = classes(ways, rows, seed=seed, **options)
    support = np.arange(len(y)) % rows < shots
    return x[support], y[support], names, x[~support], y[~support]
