"""What classifiers are worth on the same tasks, and how they differ, over tasks and intents."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.common.documents import as_percent, table
from experiments.common.evidence import auc
from experiments.text.rivals import FewShotTask, Said
from jaxmeta.evaluation import Reliability, interval95, interval_over_classes

OURS, RIVAL, TUNED = "FewShotClassifier", "LR + name", "LR + name, C of its own domain"
METRICS = ("accuracy", "log_loss", "calibration_error", "auroc", "set_size", "coverage")
_BINS = 15
_LEAST = 1e-12  # of a probability, before its logarithm


def of_tasks(said: Sequence[Said], tasks: Sequence[FewShotTask]) -> dict[str, Any]:
    """Numbers by task `[T]`, and by query `[T, Q]` how sure an answer was and whether right."""
    answers = np.stack([task.answers for task in tasks])
    scores = np.stack([each.scores for each in said])
    right = scores.argmax(axis=-1) == answers
    found = {"accuracy": right.mean(axis=1), "fit_ms": np.array([each.fit_ms for each in said])}
    found["auroc"] = np.array([auroc(each.strange, answers.shape[1]) for each in said])
    if said[0].sets is not None:
        of_right = np.take_along_axis(scores, answers[..., None], axis=-1)[..., 0]
        sets = np.stack([each.sets for each in said])  # pyrefly: ignore
        found["log_loss"] = -np.log(np.maximum(of_right, _LEAST)).mean(axis=1)
        found["set_size"] = sets.sum(axis=-1).mean(axis=1)
        found["coverage"] = np.take_along_axis(sets, answers[..., None], -1)[..., 0].mean(axis=1)
        found |= {"confidence": scores.max(axis=-1).round(6), "right": right}
    return found


def auroc(strange: np.ndarray, num_known: int) -> float:
    """How often a stranger looks stranger than a query: those come first; NaN without strangers."""
    num_strangers = len(strange) - num_known
    if not num_strangers:
        return math.nan
    return auc(strange, np.arange(len(strange)) >= num_known)


def row_of(found: dict[str, Any], held: np.ndarray) -> dict[str, Any]:
    """Means of one classifier, each with both intervals."""
    row: dict[str, Any] = {"num_tasks": len(held), "classes": len(np.unique(held))}
    for metric in METRICS:
        row |= named(metric, estimate(_values(found, metric), held))
    row["fit_ms"] = float(np.median(found["fit_ms"]))
    row["fit_ms_ci95"] = interval95(np.asarray(found["fit_ms"]))
    if "confidence" in found:
        row["reliability"] = _reliability(found)._asdict()
    return row


def named(metric: str, estimate: dict[str, float]) -> dict[str, float]:
    """An estimate as fields of a row."""
    ends = {"mean": metric, "ci95": f"{metric}_ci95", "ci95_classes": f"{metric}_ci95_classes"}
    return {ends[key]: value for key, value in estimate.items()}


def difference(ours: dict[str, Any], theirs: dict[str, Any], held: np.ndarray) -> dict[str, Any]:
    """Paired differences by metric, and which of them are ties."""
    found = {}
    for metric in METRICS:
        each = estimate(_values(ours, metric) - _values(theirs, metric), held)
        over = each["ci95_classes"]
        widest = each["ci95"] if math.isnan(over) else over
        found[metric] = each | {"tie": bool(abs(each["mean"]) <= widest)}
    return found


def estimate(values: np.ndarray, held: np.ndarray) -> dict[str, float]:
    """A mean over tasks, with its interval over tasks, and over intents if these are enough."""
    if not np.isfinite(values).all():
        return dict.fromkeys(("mean", "ci95", "ci95_classes"), math.nan)
    try:
        over_classes = interval_over_classes(values, held)
    except ValueError:  # too few intents, or tasks, to tell
        over_classes = math.nan
    return {"mean": values.mean(), "ci95": interval95(values), "ci95_classes": over_classes}


def _values(found: dict[str, Any], metric: str) -> np.ndarray:
    """By task `[T]`; the calibration error as the sum that it is, with the signs of its bins."""
    if metric == "calibration_error" and "confidence" in found:
        sure, right = (np.asarray(found[key], float) for key in ("confidence", "right"))
        gap, signs = right - sure, np.empty(sure.size)
        for rows in _bins(sure.ravel()):
            signs[rows] = np.sign(gap.ravel()[rows].mean())
        return (signs.reshape(gap.shape) * gap).mean(axis=1)
    return np.asarray(found.get(metric, [math.nan] * len(found["accuracy"])), float)


def _reliability(found: dict[str, Any]) -> Any:
    """The points of the reliability diagram of all tasks."""
    sure, right = (np.asarray(found[key], float).ravel() for key in ("confidence", "right"))
    bins = _bins(sure)
    accuracy = np.array([right[rows].mean() for rows in bins])
    return Reliability(
        np.array([sure[rows].mean() for rows in bins]), accuracy, np.array(list(map(len, bins)))
    )


def _bins(sure: np.ndarray) -> list[np.ndarray]:
    """Rows by rising confidence, as `evaluation.reliability` has them."""
    return np.array_split(np.argsort(sure, kind="stable"), min(_BINS, len(sure)))


def as_text(rows: Sequence[dict[str, Any]]) -> str:
    """What each is worth, and how ours differs from the rivals that read names too."""
    worth = [
        {
            "tasks": f"{row['dataset']} {row['ways']}-way {row['shots']}-shot",
            "learner": row["learner"],
            "accuracy %": _shown(row, "accuracy", 100, 1),
            "log-loss": _shown(row, "log_loss", 1, 3),
            "ECE %": _shown(row, "calibration_error", 100, 1),
            "AUROC %": _shown(row, "auroc", 100, 1),
            "held %": _shown(row, "coverage", 100, 1),
            "labels a set": _shown(row, "set_size", 1, 2),
            "fit ms": as_percent(row["fit_ms"], 1, 2),
            "bytes": str(row.get("bytes", "-")),
        }
        for row in rows
    ]
    differences = [
        {
            "tasks": f"{row['dataset']} {row['ways']}-way {row['shots']}-shot",
            "ours less": rival,
            "accuracy": _verdict(each["accuracy"], 100, 1, better=1),
            "log-loss": _verdict(each["log_loss"], 1, 3, better=-1),
            "ECE": _verdict(each["calibration_error"], 100, 1, better=-1),
            "AUROC": _verdict(each["auroc"], 100, 1, better=1),
        }
        for row in rows
        if row["learner"] == OURS
        for rival, each in row["less"].items()
    ]
    return (
        f"{table(worth)}\n\n{table(differences)}\n"
        "± is half of a 95% interval: over tasks / over intents, - where these are too few to tell."
        "\nA difference whose interval over intents (or, without one, over tasks) holds zero is a "
        "tie."
    )


def _shown(row: dict[str, Any], metric: str, scale: float, digits: int) -> str:
    mean, *ends = (row[f"{metric}{end}"] for end in ("", "_ci95", "_ci95_classes"))
    return _numbers(mean, ends[0], ends[1], scale, digits)


def _numbers(mean: float, ci95: float, over_classes: float, scale: float, digits: int) -> str:
    if not math.isfinite(mean):
        return "-"
    parts = [as_percent(each, scale, digits) for each in (mean, ci95, over_classes)]
    return f"{parts[0]} ± {parts[1]} / {parts[2]}"


def _verdict(each: dict[str, Any], scale: float, digits: int, *, better: int) -> str:
    text = _numbers(each["mean"], each["ci95"], each["ci95_classes"], scale, digits)
    if text == "-":
        return text
    said = "tie" if each["tie"] else "better" if each["mean"] * better > 0 else "worse"
    return f"{text} {said}"
