"""What the stages found, as a page of Markdown and as a picture."""

from pathlib import Path
from typing import Any

from experiments.common.plotting import pyplot, save
from experiments.devices.stages import Row
from experiments.timing.plots import roofline

PRODUCT = "product, float32 as it comes"
"""The item of the stage `device` that is the roof."""


def as_text(found: dict[str, Row]) -> str:
    """A section a stage: a line an item, and what failed or was left out."""
    lines = []
    for name, stage in found.items():
        state = f"{len(stage['rows'])} done"
        if stage["failures"]:
            state += f", {len(stage['failures'])} FAILED"
        if stage["left_out"]:
            state += f", {stage['left_out']} left out for time"
        lines += ["", f"## {name}: {stage['title']}", "", state + ".", ""]
        for item, said in stage["failures"].items():
            lines.append(f"- FAILED {item}: {said}")
        for row in stage["rows"]:
            said = ", ".join(
                f"{key} {_value(value)}" for key, value in row.items() if key != "item"
            )
            lines.append(f"- {row['item']}: {said}")
    return "\n".join(["# What this device does", *lines]) + "\n"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def draw(found: dict[str, Row], out: Path) -> None:
    """What was measured of these: outer steps under the roofline, formulations by shape."""
    peaks = {row["item"]: row for row in found.get("device", {}).get("rows", [])}
    steps = found.get("throughput", {}).get("rows", [])
    if steps and {PRODUCT, "copy"} <= set(peaks):
        peak = 1e3 * peaks[PRODUCT]["tflops"]
        machine = {"peak_gflops": peak, "gbytes_per_s": peaks["copy"]["gbytes_per_s"]}
        roofline(steps, machine, out / "throughput.png")
    rows = found.get("formulations", {}).get("rows", [])
    if rows:
        _draw_formulations(rows, out / "formulations.png")


def _draw_formulations(rows: list[Row], path: Path) -> None:
    figure, axes = pyplot().subplots(figsize=(9, 1.5 + 0.3 * len(rows)), layout="constrained")
    for name, marker in (("loop", "o"), ("grouped", "s"), ("patches", "^")):
        axes.plot([row[name] for row in rows], range(len(rows)), marker, label=name)
    axes.set_yticks(range(len(rows)), [row["item"] for row in rows], fontsize=8)
    axes.set(xscale="log", xlabel="milliseconds")
    axes.invert_yaxis()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    save(figure, path)
