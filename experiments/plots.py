"""Plots of the experiments; they need `pip install 'jaxmeta[plots]'`."""

import itertools
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.documents import numbers
from jaxmeta import Examples, MetaLearner, Task


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def learning_curves(records: Iterable[dict[str, Any]], path: Path) -> None:
    """Training loss and accuracy against the outer step, a line for each learner."""
    plt = _pyplot()
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
    _save(figure, path)


def one_task(learner: MetaLearner, theta: Any, task: Task, path: Path, *, title: str) -> None:
    """One unseen task: its support, its queries, and how much attention each class gets."""
    plt = _pyplot()
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
    _save(figure, path)


def _attention_cell(axis: Any, share: float, right: bool) -> None:
    """A cell shaded by the attention that a class gets, framed where it is the right one."""
    axis.imshow([[share]], cmap="Blues", vmin=0, vmax=1)
    colour = "white" if share > 0.5 else "black"
    axis.text(0, 0, f"{100 * share:.0f}%", ha="center", va="center", fontsize=8, color=colour)
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(visible=right, color="tab:green", linewidth=2.5)


def sparsity_paths(rows: dict[str, list[dict[str, Any]]], path: Path, *, title: str) -> None:
    """Accuracy with its 95% interval: of learners against density and multiply-adds, a line for
    each; and of the mechanisms, a point for each."""
    plt = _pyplot()
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
    _save(figure, path)


def _percent(points: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies and the halves of their intervals, none where there is no such number."""
    accuracy, spread = (100 * numbers(p[key] for p in points) for key in ("accuracy", "ci95"))
    return accuracy, np.where(np.isfinite(spread), spread, 0.0)


def cost_of_modes(rows: list[dict[str, Any]], path: Path, *, title: str) -> None:
    """Bytes and seconds of a meta-gradient against the inner steps, a line for each mode."""
    plt = _pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    for i, mode in enumerate(dict.fromkeys(row["mode"] for row in rows)):
        points = sorted((row for row in rows if row["mode"] == mode), key=lambda row: row["steps"])
        # Modes that cost the same lie on each other: the later one is dashed and thinner.
        style = {"linestyle": ("-", "--")[i % 2], "linewidth": (2.2, 1.3)[i % 2]}
        style |= {"marker": "osDv^<>XP*"[i % 10], "markersize": (6, 4)[i % 2], "alpha": 0.9}
        steps = [row["steps"] for row in points]
        axes[0].plot(steps, [row["temp_bytes"] / 1e6 for row in points], label=mode, **style)
        axes[1].plot(steps, [1e3 * row["least_seconds"] for row in points], **style)
    axes[0].set(ylabel="temporary memory (MB)")
    axes[1].set(ylabel="time of one meta-gradient (ms)")
    for axis in axes:
        axis.set(xscale="log", yscale="log", xlabel="inner steps")
        axis.set_xticks(sorted({row["steps"] for row in rows}), minor=False)
        axis.xaxis.set_major_formatter("{x:.0f}")
        axis.xaxis.set_minor_locator(plt.NullLocator())
        axis.grid(alpha=0.3, which="both")
    figure.legend(loc="outside right center", frameon=False)
    figure.suptitle(title, fontsize=10)
    _save(figure, path)


def regression(
    rows: list[dict[str, Any]],
    x: np.ndarray,
    functions: dict[str, np.ndarray],
    support: Examples,
    path: Path,
    num_steps: int,
) -> None:
    """Error against inner steps, level lines without any; and one task: `functions` of x."""
    plt = _pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(13, 5), layout="constrained", width_ratios=(3, 2))
    _errors(axes[0], rows, plt.get_cmap("tab20"))
    styles = ("k-", "C0:", "C0-", "C3:", "C3-")
    for (name, y), style in zip(functions.items(), styles, strict=False):
        axes[1].plot(x, y, style, label=name)
    axes[1].plot(support.x, support.y, "ko", label="support")
    axes[1].set(xlabel="x", ylabel="y", title=f"one unseen task, {num_steps} inner steps")
    axes[1].legend(frameon=False, fontsize=8)
    lines = axes[0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside left center", frameon=False, fontsize=9)
    _save(figure, path)


def _errors(axis: Any, rows: list[dict[str, Any]], colours: Any) -> None:
    """Mean error and interval after each number of inner steps."""
    for i, row in enumerate(rows):
        mean, ci95 = numbers(row["error"]), numbers(row["ci95"])
        style = {"color": colours((2 * i) % 20 + (2 * i) // 20), "label": row["learner"]}
        if len(mean) == 1:
            axis.axhline(mean[0], linestyle=("--", ":", "-.")[i % 3], **style)
            continue
        style |= {"linewidth": 2.8} if row["learner"] == "transfer" else {}
        steps = np.arange(len(mean))
        axis.plot(steps, mean, **style)
        low = np.maximum(mean - ci95, 1e-9)
        axis.fill_between(steps, low, mean + ci95, color=style["color"], alpha=0.15)
    axis.set(yscale="log", xlabel="inner steps at test time", ylabel="mean squared error")
    axis.set_xscale("symlog", linthresh=1, linscale=0.4)
    axis.set_xlim(0, None)
    # Descents that diverge leave the picture at the top.
    means = np.concatenate([numbers(row["error"]) for row in rows])
    least = means[np.isfinite(means) & (means > 0)].min(initial=1.0)
    axis.set_ylim(0.5 * least, 10)
    axis.set(title=f"unseen tasks, mean and 95% interval of {rows[0]['num_tasks']:,}")
    axis.grid(alpha=0.3, which="both")


def scaling(rows: list[dict[str, Any]], path: Path) -> None:
    """Tasks a second, and the share of the ideal, against the number of devices."""
    plt = _pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    lines = list(dict.fromkeys((row["case"], row["scaling"]) for row in rows))
    counts = sorted({row["devices"] for row in rows})
    for i, (case, kind) in enumerate(lines):
        line = [row for row in rows if (row["case"], row["scaling"]) == (case, kind)]
        style = {"color": f"C{i // 2}", "linestyle": ("-", "--")[kind == "strong"], "marker": "o"}
        devices = [row["devices"] for row in line]
        rates = [row["tasks_per_s"] for row in line]
        axes[0].plot(devices, rates, label=f"{case}, {kind}", **style)
        axes[1].plot(devices, [row["efficiency"] for row in line], **style)
    axes[0].set(yscale="log", ylabel="tasks per second")
    axes[1].set(ylim=(0, None), ylabel="of as many single devices")
    axes[1].axhline(1.0, color="grey", linewidth=0.8)
    for axis in axes:
        axis.set_xscale("log", base=2)
        axis.set(xlabel="devices")
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.grid(alpha=0.3)
    figure.legend(frameon=False, fontsize=9, loc="outside right center")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    """Write aside, then rename: a plot is whole or not there."""
    plt = _pyplot()
    aside = path.with_name(f".{path.name}")
    figure.savefig(aside, dpi=130, format="png")
    aside.replace(path)
    plt.close(figure)


def roofline(rows: list[dict[str, Any]], machine: dict[str, Any], path: Path) -> None:
    """Achieved rate against arithmetic intensity, under what the machine allows."""
    plt = _pyplot()
    figure, axis = plt.subplots(figsize=(8, 4.6), layout="constrained")
    seen = [row["flops_per_byte"] for row in rows if row["flops_per_byte"]]
    ridge = machine["peak_gflops"] / machine["gbytes_per_s"]
    intensity = np.geomspace(min([*seen, ridge]) / 3, max([*seen, ridge]) * 3, 200)
    roof = np.minimum(machine["peak_gflops"], intensity * machine["gbytes_per_s"])
    axis.plot(intensity, roof, color="black", label="matrix product and copy, measured")
    names = list(dict.fromkeys(row["case"] for row in rows))
    steps = sorted({row["inner_steps"] for row in rows})
    shapes = dict(zip(steps, itertools.cycle("osD^vP"), strict=False))
    for row in rows:
        if row["flops_per_byte"]:
            axis.scatter(
                row["flops_per_byte"],
                row["gflops"],
                color=f"C{names.index(row['case'])}",
                marker=shapes[row["inner_steps"]],
                s=12 * (1 + np.log2(row["meta_batch"])),
                alpha=0.7,
            )
    for i, name in enumerate(names):
        axis.scatter([], [], color=f"C{i}", label=name)
    for count, shape in shapes.items():
        label = f"{count} inner steps" if count else "no inner steps"
        axis.scatter([], [], color="grey", marker=shape, label=label)
    axis.set_title("Larger: more tasks in an outer step", fontsize=9)
    axis.set(xscale="log", yscale="log", xlabel="operations per byte accessed, as compiled")
    axis.set(ylabel="GFLOP/s")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, path)
