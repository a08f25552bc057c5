"""Accuracy against the density of `w`, a curve for each learner."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.documents import numbers
from experiments.common.plotting import pyplot, save


def sparsity_paths(rows: dict[str, list[dict[str, Any]]], path: Path, *, title: str) -> None:
    """Accuracy with its 95% interval: of learners against density and multiply-adds, a line for
    each; and of the mechanisms, a point for each."""
    plt = pyplot()
    figure, axes = plt.subplots(
        1, 3, figsize=(15, 4.6), layout="constrained", width_ratios=(4, 4, 3)
    )
    curves: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows["learners"]:
        curves[row["learner"]].append(row)
    for i, (name, points) in enumerate(curves.items()):
        for axis, key in zip(axes, ("density", "multiply_adds"), strict=False):
            if name == "maml" and key == "multiply_adds":
                continue  # what moves is sparse, what predicts is not
            points = sorted(points, key=lambda point, key=key: point[key])
            accuracy, spread = _percent(points)
            style = {"color": f"C{i}", "marker": "o", "capsize": 2, "label": name}
            axis.errorbar([point[key] for point in points], accuracy, yerr=spread, **style)
    axes[0].set(xlabel="density of w (maml: share of the weights that move)")
    axes[0].set_ylabel("accuracy on unseen tasks (%)")
    axes[1].set(xlabel="multiply-adds of w for a row")
    for axis in axes[:2]:
        axis.set(xscale="log")
    points = rows["mechanisms"][::-1]
    accuracy, spread = _percent(points)
    axes[2].errorbar(accuracy, range(len(points)), xerr=spread, fmt="ko", capsize=2)
    names = [f"{point['learner']} ({point['density']:.3f})" for point in points]
    axes[2].set_yticks(range(len(points)), names, fontsize=8)
    axes[2].set(xlabel="accuracy (%)")
    axes[2].set_title("hypernet, by mechanism (density)", fontsize=10)
    for axis in axes:
        axis.grid(alpha=0.3, which="both")
    if curves:
        axes[0].legend(frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=10)
    save(figure, path)


def _percent(points: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies and the halves of their intervals, none where there is no such number."""
    accuracy, spread = (100 * numbers(p[key] for p in points) for key in ("accuracy", "ci95"))
    return accuracy, np.where(np.isfinite(spread), spread, 0.0)
