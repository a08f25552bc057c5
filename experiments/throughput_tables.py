"""What the rows of the throughput kit look like as text, and which of them became slower."""

from pathlib import Path
from typing import Any

from experiments.documents import read_json

COLUMNS = (
    ("case", "<14", "case"),
    ("meta_batch", ">6", "tasks"),
    ("inner_steps", ">6", "inner"),
    ("compile_s", ">10.1f", "compile s"),
    ("ms_median", ">10.2f", "ms/step"),
    ("ms_spread", ">8.2f", "+-"),
    ("tasks_per_s", ">10.1f", "tasks/s"),
    ("inner_steps_per_s", ">10.1f", "inner/s"),
    ("adapt_ms", ">9.3f", "adapt ms"),
    ("predict_us_1", ">8.1f", "us/row"),
    ("predict_us_1000", ">9.2f", "of 1,000"),
    ("gflops", ">8.1f", "GFLOP/s"),
    ("share_of_peak", ">7.1%", "peak"),
    ("peak_mb", ">8.1f", "MB"),
    ("to_hand_written", ">8.3f", "by hand"),
)
TOLERATED = 1.1  # of a ratio, before it counts as a regression


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    width = [int(spec[1:].split(".")[0]) for _, spec, _ in COLUMNS]
    lines = [" ".join(f"{t:{s[0]}{w}}" for (_, s, t), w in zip(COLUMNS, width, strict=True))]
    for row in rows:
        cells = [
            f"{row[key]:{spec}}" if row.get(key) is not None else f"{'-':{spec[0]}{w}}"
            for (key, spec, _), w in zip(COLUMNS, width, strict=True)
        ]
        lines.append(" ".join(cells))
    return "\n".join(lines)


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
    lines = [f"{'case':<14} {'tasks':>6} {'inner':>6}" + "".join(f" {name:>12}" for name in names)]
    for row in rows:
        cells = [
            f"{row['peers'][name] / row['ms_median']:>11.2f}x"
            if name in row["peers"]
            else f"{'-':>12}"
            for name in names
        ]
        lines.append(
            f"{row['case']:<14} {row['meta_batch']:>6} {row['inner_steps']:>6} " + " ".join(cells)
        )
    return "\n".join(lines)
