"""Accuracy against the density of `w`, a curve for each learner."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.documents import numbers
from experiments.common.plotting import pyplot, save


def sparsity_paths(
    rows: dict[str, list[dict[str, Any]]],
    certified: list[dict[str, Any]],
    path: Path,
    *,
    title: str,
) -> None:
    """Accuracy with its 95% interval: of learners against density and multiply-adds, a line for
    each; and of the mechanisms, a point for each. Certified errors against the share that is kept.
    """
    plt = pyplot()
    figure, axes = plt.subplots(
        1, 4, figsize=(19, 4.6), layout="constrained", width_ratios=(4, 4, 4, 3)
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
    _certified(axes[2], certified, [*curves])
    _mechanisms(axes[3], rows["mechanisms"][::-1])
    for axis in axes:
        axis.grid(alpha=0.3, which="both")
    if curves:
        axes[0].legend(frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=10)
    save(figure, path)


def _mechanisms(axis: Any, points: list[dict[str, Any]]) -> None:
    """A point for each, with its interval."""
    accuracy, spread = _percent(points)
    axis.errorbar(accuracy, range(len(points)), xerr=spread, fmt="ko", capsize=2)
    names = [f"{point['learner']} ({point['density']:.3f})" for point in points]
    axis.set_yticks(range(len(points)), names, fontsize=8)
    axis.set(xlabel="accuracy (%)")
    axis.set_title("hypernet, by mechanism (density)", fontsize=10)


def _certified(axis: Any, rows: list[dict[str, Any]], names: list[str]) -> None:
    """The bound, and the true error under it; the place of a learner's name is its colour."""
    for i, name in enumerate(names):
        points = [row for row in rows if row["learner"] == name]
        if not points:
            continue
        shares = [point["share"] for point in points]
        for key, dashes, what in (("bound", "-", "certified"), ("true_error", ":", "true")):
            style = {"color": f"C{i}", "linestyle": dashes, "marker": "o", "markersize": 3}
            values = 100 * numbers(point[key] for point in points)
            axis.plot(shares, values, label=f"{name}, {what}", **style)
    axis.set(xlabel="share of w that is kept", ylabel="error (%)", xscale="log", ylim=(0, 102))
    axis.set_title("adapted to many rows: 95% bound on the error", fontsize=10)
    if rows:
        axis.legend(frameon=False, fontsize=8)


def _percent(points: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies and the halves of their intervals, none where there is no such number."""
    accuracy, spread = (100 * numbers(p[key] for p in points) for key in ("accuracy", "ci95"))
    return accuracy, np.where(np.isfinite(spread), spread, 0.0)
