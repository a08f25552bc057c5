"""Pictures of speed: throughput against devices, and against what the machine can do."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.plotting import pyplot, save


def scaling(rows: list[dict[str, Any]], path: Path) -> None:
    """Tasks a second, and the share of the ideal, against the number of devices."""
    plt = pyplot()
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
    save(figure, path)


def roofline(rows: list[dict[str, Any]], machine: dict[str, Any], path: Path) -> None:
    """Achieved rate against arithmetic intensity, under what the machine allows."""
    plt = pyplot()
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
    save(figure, path)
