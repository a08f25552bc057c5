"""Pictures of the experiments with images: learning curves, and one task."""

import itertools
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.common.documents import numbers
from experiments.common.plotting import pyplot, save
from jaxmeta import MetaLearner, Task


def learning_curves(records: Iterable[dict[str, Any]], path: Path) -> None:
    """Training loss and accuracy against the outer step, a line for each learner."""
    plt = pyplot()
    by_learner: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        by_learner[record["learner"]].append(record)
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    # Ten colours, then the same ten dashed.
    styles = [{"color": f"C{i}", "linestyle": dashes} for dashes in ("-", "--") for i in range(10)]
    for (name, rows), style in zip(by_learner.items(), itertools.cycle(styles), strict=False):
        steps = [row["step"] for row in rows]
        axes[0].plot(steps, numbers(row["loss"] for row in rows), label=name, **style)
        axes[1].plot(steps, 100 * numbers(row.get("accuracy") for row in rows), **style)
    axes[0].set(xlabel="outer step", ylabel="meta-training loss (nats)", yscale="log")
    axes[1].set(xlabel="outer step", ylabel="meta-training accuracy (%)")
    axes[1].set_title("transfer: over all training classes at once", fontsize=9)
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.legend(frameon=False, fontsize=9, loc="outside right center")
    save(figure, path)


def generalisation(rows: list[dict[str, Any]], path: Path, *, ways: int) -> None:
    """Accuracy on classes of training and on new ones, against their number; and the gap."""
    plt = pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for i, name in enumerate(dict.fromkeys(row["learner"] for row in rows)):
        points = [row for row in rows if row["learner"] == name]
        counts = [row["classes"] for row in points]
        lines = (
            (left, "trained", "trained_ci95_classes", "--", "classes of training"),
            (left, "new", "new_ci95_classes", "-", "new classes"),
            (right, "gap", "gap_ci95_classes", "-", "gap"),
        )
        for axis, key, spread, dashes, what in lines:
            values, half = (100 * numbers(row[each] for row in points) for each in (key, spread))
            style = {"color": f"C{i}", "linestyle": dashes, "marker": "o", "capsize": 3}
            half = np.where(np.isfinite(half), half, 0.0)
            axis.errorbar(counts, values, yerr=half, label=f"{name}, {what}", **style)
    left.set(ylabel=f"{ways}-way 1-shot accuracy (%)")
    right.set(ylabel="gap between them (points)")
    right.axhline(0.0, color="black", linewidth=0.8)
    counts = sorted({row["classes"] for row in rows})
    for axis in (left, right):
        axis.set(xlabel="characters trained on", xscale="log")
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=8, handlelength=4)
    save(figure, path)


def one_task(learner: MetaLearner, theta: Any, task: Task, path: Path, *, title: str) -> None:
    """One unseen task: its support, its queries, and how much attention each class gets."""
    plt = pyplot()
    w = learner.adapt(theta, task.support)
    attention = np.asarray(jax.nn.softmax(learner.predict(theta, w, task.query.x)))
    support_y, query_y = np.asarray(task.support.y), np.asarray(task.query.y)
    ways = int(support_y.max()) + 1
    shown = [np.flatnonzero(query_y == c)[:2] for c in range(ways)]
    queries = np.concatenate(shown)[:12]
    figure = plt.figure(figsize=(1.0 + 0.9 * (ways + 1), 1.3 + 0.8 * len(queries)))
    grid = figure.add_gridspec(
        len(queries) + 1, ways + 1, wspace=0.08, hspace=0.08, top=0.92, bottom=0.02
    )
    for c in range(ways):
        axis = figure.add_subplot(grid[0, c + 1])
        axis.imshow(task.support.x[np.flatnonzero(support_y == c)[0], ..., 0], cmap="gray_r")
        axis.set(xticks=[], yticks=[])
        axis.set_title(f"class {c}", fontsize=8)
    for row, query in enumerate(queries, start=1):
        axis = figure.add_subplot(grid[row, 0])
        axis.imshow(task.query.x[query, ..., 0], cmap="gray_r")
        axis.set(xticks=[], yticks=[])
        for c in range(ways):
            _attention_cell(
                figure.add_subplot(grid[row, c + 1]), attention[query, c], query_y[query] == c
            )
    figure.suptitle(title, fontsize=9)
    save(figure, path)


def _attention_cell(axis: Any, share: float, right: bool) -> None:
    """A cell shaded by the attention that a class gets, framed where it is the right one."""
    axis.imshow([[share]], cmap="Blues", vmin=0, vmax=1)
    colour = "white" if share > 0.5 else "black"
    axis.text(0, 0, f"{100 * share:.0f}%", ha="center", va="center", fontsize=8, color=colour)
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(visible=right, color="tab:green", linewidth=2.5)
