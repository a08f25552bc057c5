"""What answers about films are worth to each user, how two methods differ, and tables of it."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.common.documents import as_percent, plus_minus, table
from experiments.films.data import LIKED, Viewer
from jaxmeta import Evaluation, paired_difference
from jaxmeta.evaluation import interval95

Answer = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""`(films, ratings) -> values [M]` of all films, for a user who has rated these."""

TOP = 10


class Method(NamedTuple):
    """One way to tell ratings, to rank films, or both; None where it does not."""

    name: str
    rate: Answer | None
    rank: Answer | None


class Worth(NamedTuple):
    """Of each user `[T]`; NaN where there is nothing to judge."""

    rmse: np.ndarray
    mae: np.ndarray
    ndcg: np.ndarray


def measure(method: Method, users: Sequence[Viewer], ratings: int) -> Worth:
    """What a method says of the query films of some users after so many ratings."""
    found = []
    for user in users:
        films = user.known[:ratings]
        about = films, user.row[films]
        rmse = mae = ndcg = math.nan
        if method.rate is not None:
            error = np.clip(method.rate(*about)[user.asked], 1.0, 5.0) - user.row[user.asked]
            rmse, mae = np.sqrt(np.mean(error**2)), np.abs(error).mean()
        if method.rank is not None:
            ndcg = ndcg_at(method.rank(*about), user)
        found.append((rmse, mae, ndcg))
    return Worth(*np.asarray(found, float).T)


def ndcg_at(scores: np.ndarray, user: Viewer, top: int = TOP) -> float:
    """nDCG of the first films of a ranking of all but the known ones; NaN if none was liked.

    A film gains one if it is a query film that was liked. Those that could be known after
    `MOST_RATINGS` ratings are left out however few are known, so that candidates are the same.
    """
    liked = user.asked[user.row[user.asked] >= LIKED]
    if not len(liked):
        return math.nan
    scores = np.array(scores, float)
    scores[user.known] = -np.inf
    first = np.argsort(-scores, kind="stable")[:top]
    discount = 1.0 / np.log2(np.arange(top) + 2.0)
    gained = discount[: len(first)][np.isin(first, liked)].sum()
    return float(gained / discount[: len(liked)].sum())


def choose(
    settings: Sequence[Any],
    build: Callable[[Any], Answer],
    users: Sequence[Viewer],
    sizes: Sequence[int],
    *,
    ranks: bool = False,
) -> tuple[Any, Answer]:
    """The setting that is best for validation users over all sizes of support, and its answers."""
    best, found = math.inf, None
    for setting in settings:
        answer = build(setting)
        method = Method("", None, answer) if ranks else Method("", answer, None)
        worths = [measure(method, users, size) for size in sizes]
        lost = np.mean([-np.nanmean(each.ndcg) if ranks else each.rmse.mean() for each in worths])
        if found is None or lost < best:
            best, found = lost, (setting, answer)
    assert found is not None, "There is nothing to choose from."
    return found


def mean_and_interval(values: np.ndarray) -> tuple[float, float]:
    """The mean over the users who could be judged, and the half of its 95% interval."""
    values = values[~np.isnan(values)]
    return (float(values.mean()), interval95(values)) if len(values) else (math.nan, math.nan)


def difference(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """The mean of ours - theirs over users, and the half of its 95% interval, paired."""
    mean, ci95 = paired_difference(_evaluation(ours), _evaluation(theirs))
    return {"mean": mean, "ci95": ci95}


def _evaluation(values: np.ndarray) -> Evaluation:
    unjudged = tuple(int(at) for at in np.flatnonzero(np.isnan(values)))
    return Evaluation(*mean_and_interval(values), values, 1.0, 0.0, 0.0, unjudged=unjudged)


def row_of(name: str, ratings: int, worth: Worth) -> dict[str, Any]:
    """The numbers of one method after so many ratings."""
    (rmse, ci95), (mae, mae_ci95) = map(mean_and_interval, (worth.rmse, worth.mae))
    ndcg, ndcg_ci95 = mean_and_interval(worth.ndcg)
    return {
        "name": name,
        "ratings": ratings,
        "rmse": rmse,
        "ci95": ci95,
        "mae": mae,
        "mae_ci95": mae_ci95,
        "ndcg10": ndcg,
        "ndcg10_ci95": ndcg_ci95,
        "num_users": len(worth.rmse),
    }


def as_text(rows: Sequence[dict[str, Any]]) -> str:
    """The results as a table, and what its numbers mean."""
    shown = [
        {
            "ratings, method": f"{row['ratings']}, {row['name']}",
            "RMSE": plus_minus(row["rmse"], row["ci95"], scale=1.0, digits=3),
            "MAE": as_percent(row["mae"], 1.0, 3),
            "RMSE - prior's": difference_as_text(row["against_prior"]),
            "nDCG@10": plus_minus(row["ndcg10"], row["ndcg10_ci95"], scale=1.0, digits=3),
            "nDCG - EASE's": difference_as_text(row["against_ease"]),
        }
        for row in rows
    ]
    return (
        f"{table(shown)}\nMeans over {rows[0]['num_users']} unseen users of their own RMSE, MAE "
        "and nDCG; ± is a 95% interval over users, of a difference a paired one."
    )


def difference_as_text(difference: dict[str, float]) -> str:
    """A difference and the half of its interval."""
    return plus_minus(difference["mean"], difference["ci95"], scale=1.0, digits=4)
