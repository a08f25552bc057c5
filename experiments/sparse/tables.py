"""Rows of `sparsity_path` as text."""

import math
from typing import Any

from experiments.common.documents import as_percent, plus_minus, table


def of_rows(rows: list[dict[str, Any]]) -> str:
    """The results as text."""
    return table(
        [
            {
                "learner": row["learner"],
                "density": f"{row['density']:.4f}",
                "accuracy %": plus_minus(row["accuracy"], row["ci95"]),
                "± classes": as_percent(row["ci95_classes"]),
                "cost, points": plus_minus(row["cost"]["mean"], row["cost"]["ci95"]),
                "± of it, classes": as_percent(row["cost"].get("ci95_classes", math.nan)),
                "non-zeros": f"{row['nonzeros']:.0f}",
                "mult-adds": str(row["multiply_adds"]),
                "inputs": str(row["live_inputs"]),
                "bytes": f"{row['bytes']:.0f}",
            }
            for row in rows
        ]
    )
