"""What the rows of the throughput kit look like as text, and which of them became slower."""

from pathlib import Path
from typing import Any

from experiments.common.documents import read_json
from experiments.common.documents import table as as_table

COLUMNS = (
    ("case", "", "case"),
    ("meta_batch", "", "tasks"),
    ("inner_steps", "", "inner"),
    ("compile_s", ".1f", "compile s"),
    ("ms_median", ".2f", "ms/step"),
    ("ms_spread", ".2f", "+-"),
    ("tasks_per_s", ".1f", "tasks/s"),
    ("inner_steps_per_s", ".1f", "inner/s"),
    ("adapt_ms", ".3f", "adapt ms"),
    ("predict_us_1", ".1f", "us/row"),
    ("predict_us_1000", ".2f", "of 1,000"),
    ("gflops", ".1f", "GFLOP/s"),
    ("share_of_peak", ".1%", "peak"),
    ("peak_mb", ".1f", "MB"),
    ("to_hand_written", ".3f", "by hand"),
)
TOLERATED = 1.1  # of a ratio, before it counts as a regression


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    return as_table(
        [
            {
                title: "-" if row.get(key) is None else format(row[key], spec)
                for key, spec, title in COLUMNS
            }
            for row in rows
        ]
    )


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of an earlier run.

    Raises:
      ValueError: if the file is not what such a run wrote.
    """
    document = read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("rows"), list):
        raise ValueError(f"{path} has no rows of an earlier run: name what its --json wrote.")
    return document["rows"]


def regressions(rows: list[dict[str, Any]], baseline: list[dict[str, Any]]) -> list[str]:
    """Rows that are slower than they were, measured against the machine of each run.

    By the ratio to the hand-written step where there is one, else by the share of the peak.
    """
    identity = ("case", "meta_batch", "inner_steps")
    before = {tuple(row.get(key) for key in identity): row for row in baseline}
    found = []
    for row in rows:
        old = before.get(tuple(row[key] for key in identity), {})
        if row.get("to_hand_written") and old.get("to_hand_written"):
            change = row["to_hand_written"] / old["to_hand_written"]
        elif row.get("share_of_peak") and old.get("share_of_peak"):
            change = old["share_of_peak"] / row["share_of_peak"]
        else:
            continue  # a file has null for a ratio that could not be measured
        if change > TOLERATED:
            name = f"{row['case']}, {row['meta_batch']} tasks, {row['inner_steps']} inner steps"
            found.append(f"{name}: {change:.2f} times slower than the baseline")
    return found


def ratios(rows: list[dict[str, Any]]) -> str:
    """A table of how many times the library's duration each of the others takes."""
    names = sorted({name for row in rows for name in row["peers"]})
    lines = []
    for row in rows:
        line = {"case": row["case"], "tasks": str(row["meta_batch"])}
        line |= {"inner": str(row["inner_steps"])}
        for name in names:
            known = name in row["peers"]
            line[name] = f"{row['peers'][name] / row['ms_median']:.2f}x" if known else "-"
        lines.append(line)
    return as_table(lines)
