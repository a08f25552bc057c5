"""Pictures of what is known of a user after each rating."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.documents import numbers
from experiments.common.plotting import pyplot, save


def by_ratings(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """RMSE against the number of ratings, and its difference from the closed form's, as a PNG."""
    plt = pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.4, 4.6), layout="constrained")
    names = [name for name in dict.fromkeys(row["name"] for row in rows)]
    for at, name in enumerate(names):
        own = [row for row in rows if row["name"] == name]
        rmse = numbers(row["rmse"] for row in own)
        if np.isnan(rmse).all():
            continue
        places = np.arange(len(own)) + 0.05 * (at - len(names) / 2)
        style = {"marker": "o", "markersize": 4, "linewidth": 1.3, "capsize": 2, "label": name}
        left.errorbar(places, rmse, numbers(row["ci95"] for row in own), **style)
        paired = [row["against_prior"] for row in own]
        mean, ci95 = (numbers(each[key] for each in paired) for key in ("mean", "ci95"))
        right.errorbar(places, mean, ci95, **style)
    sizes = [str(size) for size in dict.fromkeys(row["ratings"] for row in rows)]
    for axis in (left, right):
        axis.set_xticks(range(len(sizes)), sizes)
        axis.set_xlabel("known ratings of a new user")
        axis.grid(alpha=0.3)
    left.set_ylabel("RMSE of the other ratings, mean over users")
    right.set_ylabel("RMSE less that of the closed-form prior, paired")
    right.axhline(0.0, color="black", linewidth=0.8)
    right.legend(frameon=False, fontsize=8, loc="upper left")
    save(figure, path)
