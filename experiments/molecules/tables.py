"""Results of assays: AUC with intervals over draws and over assays, as rows, text, picture."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.documents import as_percent, plus_minus, table
from experiments.common.plotting import pyplot, save
from experiments.molecules.assays import UNKNOWN, Assays, split
from experiments.molecules.fitting import NEVER, SCREENED, Part
from jaxmeta.evaluation import interval95, interval_over_groups


def both_intervals(values: np.ndarray) -> dict[str, float]:
    """Mean of `values [A, draws]`, and the halves of its 95% intervals.

    `ci95` is over draws of the few labels, for these assays; `ci95_assays` is for new assays, by
    the jackknife, and NaN if there is one assay alone.
    """
    if not values.size:
        return {"auc": math.nan, "ci95": math.nan, "ci95_assays": math.nan}
    assays, count = values.shape
    groups = np.repeat(np.arange(assays), count)
    over_assays = interval_over_groups(values.ravel(), groups) if assays > 1 else math.nan
    over_draws = interval95(values.mean(axis=0))
    return {"auc": float(values.mean()), "ci95": over_draws, "ci95_assays": over_assays}


def row(data: Assays, setting: str, name: str, part: Part, values: np.ndarray) -> dict[str, Any]:
    """The result of one learner or rival, `values [A, draws]`."""
    names = [str(data.task[assay]) for assay in part.judge]
    each = {
        task: {"auc": float(of.mean()), "ci95": interval95(of)}
        for task, of in zip(names, values, strict=True)
    }
    wanted = [str(data.task[assay]) for assay in split(len(data.task))[1]]
    return {
        "name": name,
        "data": data.name,
        "setting": setting,
        **both_intervals(values),
        "assays": each,
        "left_out": [task for task in wanted if task not in names],
        "inductive": True,
    }


def compared(
    rows: list[dict[str, Any]], values: dict[str, np.ndarray], rivals: Sequence[str]
) -> list[dict[str, Any]]:
    """The rows of one setting, learners with what they are ahead of the best rival."""
    best = max(rivals, key=lambda name: values[name].mean() if values[name].size else 0.0)
    for each in rows:
        if each["name"] not in rivals:
            ahead = both_intervals(values[each["name"]] - values[best])
            ahead["mean"] = ahead.pop("auc")
            each["ahead"] = {"of": best, **ahead}
    return rows


def about(data: Assays, parts: dict[str, Part]) -> dict[str, Any]:
    """What was read, and how it was split."""
    train, test = split(len(data.task))
    return {
        "molecules": len(data.bits),
        "duplicates": data.duplicates,
        "conflicts": data.conflicts,
        "known_labels": int((data.label != UNKNOWN).sum()),
        "training_assays": [str(task) for task in data.task[train]],
        "test_assays": [str(task) for task in data.task[test]],
        "held_out": {setting: len(part.judged.rows) for setting, part in parts.items()},
    }


def as_text(rows: list[dict[str, Any]]) -> str:
    """The results as a table, and what its numbers mean."""
    shown = []
    for each in rows:
        ahead = each.get("ahead")
        shown.append(
            {
                "molecules": f"{each['data']}, {each['setting']}",
                "learner": each["name"],
                "AUC %": plus_minus(each["auc"], each["ci95"], digits=1),
                "over assays": f"± {as_percent(each['ci95_assays'], digits=1)}",
                "ahead %": "" if ahead is None else _difference(ahead),
            }
        )
    return (
        f"{table(shown)}\nOn assays that were not learned from. ± over draws of the labelled "
        "molecules, then over assays; ahead of the best\nrival of the same molecules, ± over draws."
        " Of molecules screened before, learners read what is known under other assays."
    )


def _difference(ahead: dict[str, float]) -> str:
    return plus_minus(ahead["mean"], ahead["ci95"], digits=1)


def draw_results(rows: list[dict[str, Any]], path: Path) -> None:
    """A panel for each data set: the AUC of all learners and rivals, in both settings."""
    sets = list(dict.fromkeys(each["data"] for each in rows))
    plt = pyplot()
    figure, axes = plt.subplots(
        1,
        len(sets),
        figsize=(2.6 + 3.6 * len(sets), 4.6),
        layout="constrained",
        squeeze=False,
        sharey=True,
    )
    names = list(dict.fromkeys(each["name"] for each in rows))[::-1]
    for axis, data in zip(axes[0], sets, strict=True):
        for setting, shift, colour in ((SCREENED, 0.13, "C0"), (NEVER, -0.13, "C1")):
            found = [e for e in rows if (e["data"], e["setting"]) == (data, setting)]
            place = [names.index(each["name"]) + shift for each in found]
            mean = [100 * each["auc"] for each in found]
            half = [100 * np.nan_to_num(each["ci95"], posinf=0.0) for each in found]
            axis.errorbar(
                mean, place, xerr=half, fmt="o", color=colour, markersize=4, label=setting
            )
        axis.axvline(50, color="black", linewidth=0.8)
        axis.set(yticks=range(len(names)), yticklabels=names, xlabel="AUC on new assays (%)")
        axis.set_title(f"{data}, ± over draws")
        axis.grid(alpha=0.3)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower right", ncols=2, frameon=False)
    save(figure, path)
