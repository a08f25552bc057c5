"""The table of few-shot results: rows compared with the best and with the baselines."""

import math

from experiments.common.documents import as_percent, plus_minus
from experiments.common.documents import table as as_table
from experiments.common.evidence import paired
from experiments.images import guard

MEANING = """\
Accuracy ± its 95% interval over tasks of these classes; "± classes" is the one for new classes.
"to the best" is paired over tasks; "to the baseline" over classes: a win lies outside of it."""


def compare_to_best(rows: list[dict]) -> list[dict]:
    """Rows of one setting after the other, best first, each with its paired difference to it.

    The tasks are the same for all, so the interval is that of the difference task by task.
    """
    ordered = []
    for setting in dict.fromkeys((row["ways"], row["shots"]) for row in rows):
        same = [row for row in rows if (row["ways"], row["shots"]) == setting]
        # What has no accuracy is no better than anything.
        same.sort(key=lambda row: -row["accuracy"] if math.isfinite(row["accuracy"]) else math.inf)
        best = same[0]["evaluation"]
        for row in same:
            ordered.append(row | {"to_best": paired(row["evaluation"], best)})
    for row in ordered:
        del row["evaluation"]
    return ordered


def table(rows: list[dict]) -> str:
    """The results as text."""
    shown = as_table(
        [
            {
                "learner": row["learner"] + ("" if row["inductive"] else " (transd.)"),
                "ways": str(row["ways"]),
                "shots": str(row["shots"]),
                "accuracy %": plus_minus(row["accuracy"], row["ci95"]),
                "± classes": as_percent(row["ci95_classes"]),
                "to the best": plus_minus(row["to_best"]["mean"], row["to_best"]["ci95"]),
                "to the baseline": guard.as_text(row),
                "log-loss": as_percent(row.get("log_loss", math.nan), scale=1.0, digits=3),
                "ECE %": as_percent(row.get("calibration_error", math.nan), digits=1),
                "density": f"{row['density']:.3f}",
                "bytes": f"{row['bytes']:.0f}",
                "train s": f"{row['seconds']:.0f}",
                "tasks/s": f"{row['tasks_per_second']:.0f}",
            }
            for row in rows
        ]
    )
    return f"{shown}\n{MEANING}"
