"""What the tabular benchmark's records come to: a table, ranks, intervals, two pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from experiments.common.documents import numbers
from experiments.common.documents import table as as_table

MEASURES = ("log_loss", "accuracy", "auc", "calibration", "fit_ms", "predict_ms", "predict_row_ms")
_RESAMPLES = 2000


def by_set(records: Sequence[dict[str, Any]], rows: int) -> dict[str, dict[str, np.ndarray]]:
    """Each measure of each method, a number a data set: the mean of the splits that all did."""
    records = [record for record in records if record["rows"] == rows]
    methods = list(dict.fromkeys(record["method"] for record in records))
    tasks = {method: {} for method in methods}
    for record in records:
        tasks[record["method"]][(record["set"], record["split"])] = record
    common = sorted(set.intersection(*(set(each) for each in tasks.values()))) if tasks else []
    names = sorted({name for name, _ in common})
    table: dict[str, dict[str, np.ndarray]] = {}
    for method in methods:
        done = [tasks[method][task] for task in common]
        table[method] = {
            measure: np.asarray(
                [numbers(r[measure] for r in done if r["set"] == name).mean() for name in names]
            )
            for measure in (*MEASURES, "terms")
            if all(measure in record for record in done)
        }
    return table


def interval(differences: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95% bootstrap interval, over data sets, of the mean of `differences [sets]`."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(differences), (_RESAMPLES, len(differences)))
    low, high = np.quantile(differences[drawn].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def ranks(table: dict[str, dict[str, np.ndarray]], measure: str) -> dict[str, float]:
    """Mean rank of each method over the data sets, 1 for the best; ties share theirs.

    A method without a number is behind all others.
    """
    sign = 1.0 if measure in ("log_loss", "calibration") else -1.0
    values = sign * np.stack([each[measure] for each in table.values()])
    values = np.where(np.isnan(values), np.inf, values)
    below = (values[:, None] > values[None]).sum(axis=1)
    same = (values[:, None] == values[None]).sum(axis=1)
    return dict(zip(table, (below + (same + 1) / 2).mean(axis=1).tolist(), strict=True))


def cost_of_few_terms(records: Sequence[dict[str, Any]], rows: int, dense: str, few: str) -> str:
    """What a bound on the terms costs in log-loss where there are two classes, as a sentence."""
    table = by_set([record for record in records if record["classes"] == 2], rows)
    if not {dense, few} <= set(table):
        return ""
    gap = table[few]["log_loss"] - table[dense]["log_loss"]
    low, high = interval(gap)
    return (
        f"{few} less {dense}, {len(gap)} sets of two classes: {gap.mean():+.4f} "
        f"[{low:+.4f}, {high:+.4f}], median {np.median(gap):+.4f}"
    )


def as_text(table: dict[str, dict[str, np.ndarray]], reference: str) -> str:
    """A line a method, sorted by log-loss; differences are the reference's less the method's."""
    rank, ours = ranks(table, "log_loss"), table[reference]
    lines = []
    for method in sorted(table, key=lambda name: _last_if_nan(table[name]["log_loss"].mean())):
        each = table[method]
        gap = ours["log_loss"] - each["log_loss"]
        low, high = interval(gap)
        other = method != reference
        lines.append(
            {
                "method": method,
                "log-loss": f"{each['log_loss'].mean():.4f}",
                "acc %": f"{100 * each['accuracy'].mean():.2f}",
                "AUC": f"{each['auc'].mean():.4f}",
                "calib.": f"{each['calibration'].mean():.4f}",
                "rank": f"{rank[method]:.2f}",
                "difference, 95% over sets": f"{gap.mean():+.4f} [{low:+.4f}, {high:+.4f}]" * other,
                "won %": f"{100 * (gap < 0).mean():.0f}" * other,
                "terms": f"{each['terms'].mean():.1f}" if "terms" in each else "",
                "fit ms": f"{np.median(each['fit_ms']):.1f}",
                "row us": f"{1e3 * np.median(each['predict_row_ms']):.0f}",
            }
        )
    return as_table(lines)


def _last_if_nan(value: float) -> float:
    return np.inf if np.isnan(value) else value


def draw(table: dict[str, dict[str, np.ndarray]], rows: int, out: Path) -> None:
    """The rank diagram, and accuracy against the time of a fit."""
    rank = ranks(table, "log_loss")
    order = sorted(rank, key=lambda name: -rank[name])
    colours = ["C3" if name.startswith("meta-net") else "C0" for name in order]
    figure, axes = plt.subplots(figsize=(6.5, 0.4 * len(order) + 1.2), layout="constrained")
    axes.hlines(order, 1, [rank[name] for name in order], color="0.8")
    axes.scatter([rank[name] for name in order], order, c=colours, zorder=2)
    axes.set_xlabel("mean rank by log-loss, 1 is best")
    number = len(next(iter(table.values()))["log_loss"])
    axes.set_title(f"{number} data sets, {rows} support rows")
    figure.savefig(out / f"ranks_{rows}.png", dpi=120)
    plt.close(figure)
    figure, axes = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    spots = {
        name: (np.median(each["fit_ms"]), 100 * each["accuracy"].mean())
        for name, each in table.items()
    }
    for name, spot in spots.items():
        # Of neighbours, the name of the quicker one goes to the left.
        left = any(
            abs(other[1] - spot[1]) < 0.2 and spot[0] < other[0] < 3 * spot[0]
            for other in spots.values()
        )
        axes.scatter(*spot, c="C3" if name.startswith("meta-net") else "C0")
        where = {"xytext": (-6 if left else 6, 0), "ha": "right" if left else "left"}
        axes.annotate(name, spot, **where, va="center", textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel("median time of a fit, ms")
    axes.set_ylabel("accuracy, %")
    axes.set_title(f"{number} data sets, {rows} support rows")
    axes.margins(x=0.3)
    figure.savefig(out / f"accuracy_against_time_{rows}.png", dpi=120)
    plt.close(figure)
