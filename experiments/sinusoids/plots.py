"""Pictures of regression: what learners predict, and what a meta-gradient costs."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.documents import numbers
from experiments.common.plotting import pyplot, save
from jaxmeta import Examples


def regression(
    rows: list[dict[str, Any]],
    x: np.ndarray,
    functions: dict[str, np.ndarray],
    support: Examples,
    path: Path,
    num_steps: int,
) -> None:
    """Error against inner steps, level lines without any; and one task: `functions` of x."""
    plt = pyplot()
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
    save(figure, path)


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


def cost_of_modes(rows: list[dict[str, Any]], path: Path, *, title: str) -> None:
    """Bytes and seconds of a meta-gradient against the inner steps, a line for each mode."""
    plt = pyplot()
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
    save(figure, path)
