"""Pictures of intents: how true probabilities are, and what further sentences add."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.common.plotting import pyplot, reliability_diagram, save
from experiments.text.comparison import OURS, RIVAL

LINES = {
    OURS: ("tab:blue", "-"),
    RIVAL: ("tab:orange", "-"),
    "logistic regression": ("tab:green", "-"),
    "nearest centroid": ("tab:gray", "-"),
    "prototypes": ("tab:red", "--"),  # the same answers
}


def reliability_of(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """The most intents at the fewest sentences, of the first data set."""
    first = [row for row in rows if row["dataset"] == rows[0]["dataset"] and "reliability" in row]
    ways = max(row["ways"] for row in first)
    shots = min((row["shots"] for row in first if row["shots"]), default=0)
    reliability_diagram(
        {
            f"{row['learner']}, {ways}-way {row['shots']}-shot": row["reliability"]
            for row in first
            if row["ways"] == ways and (row["shots"] == shots or row["learner"] == OURS)
        },
        path,
    )


def accuracy_by_shots(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """A panel for each data set and number of intents, with the intervals over tasks."""
    plt = pyplot()
    panels = list(dict.fromkeys((row["dataset"], row["ways"]) for row in rows))
    names = list(dict.fromkeys(name for name, _ in panels))
    across = max(sum(name == each for each, _ in panels) for name in names)
    size = (3.4 * across, 3.0 * len(names))
    figure, axes = plt.subplots(
        len(names), across, figsize=size, sharey="row", squeeze=False, layout="constrained"
    )
    shots = sorted({row["shots"] for row in rows})
    for axis, (name, ways) in zip(axes.flat, panels, strict=True):
        for learner, (colour, style) in LINES.items():
            of = [row for row in rows if (row["dataset"], row["ways"]) == (name, ways)]
            of = sorted((row for row in of if row["learner"] == learner), key=_shots)
            x = [shots.index(row["shots"]) for row in of]
            y = [100 * row["accuracy"] for row in of]
            ci95 = [100 * row["accuracy_ci95"] for row in of]
            look = {"color": colour, "linestyle": style, "marker": "o", "markersize": 3}
            axis.errorbar(x, y, ci95, label=learner, **look)
        axis.set_title(f"{name}, {ways}-way", fontsize=10)
        axis.set_xticks(range(len(shots)), [str(each) for each in shots])
        axis.set_xlabel("sentences of each intent")
        axis.grid(alpha=0.3)
    for row in axes:
        row[0].set_ylabel("accuracy (%)")
    axes.flat[0].legend(frameon=False, fontsize=7)
    save(figure, path)


def _shots(row: dict[str, Any]) -> int:
    return row["shots"]
