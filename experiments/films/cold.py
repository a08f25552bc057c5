"""A film that nobody has rated yet: what its genres say of it, to users who are new as well."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.films.data import Viewer
from experiments.films.judging import Answer, difference, mean_and_interval
from experiments.films.prior import Setting, fit, item_means

SHARE = 0.1


def held_out(num_films: int, seed: int) -> np.ndarray:
    """Which films lose all their ratings, bool `[M]`."""
    return np.random.default_rng(seed).random(num_films) < SHARE


def judge(
    matrix: np.ndarray,
    genres: np.ndarray,
    users: Sequence[Viewer],
    setting: Setting,
    *,
    seed: int,
    offset: float,
) -> list[dict[str, Any]]:
    """The errors on films without a rating, after all known ratings of the others.

    Args:
      matrix: ratings of the training users; those of the films held out are not looked at.
      genres: of all films.
      users: who are judged, on such of their ratings as are of these films.
      setting: of the prior, as chosen on all films.
      seed: of the films.
      offset: the shrinkage of the user's offset.
    """
    cold = held_out(len(genres), seed)
    rest = np.where(cold, np.nan, matrix)
    plain, told = item_means(rest), item_means(rest, genres)
    prior = fit(rest, genres, setting, start=told)

    def with_offset(mean: np.ndarray) -> Answer:
        return lambda films, own: mean + (own - plain[films]).sum() / (len(films) + offset)

    answers = {
        "mean of all ratings": lambda films, own: plain,
        "and the user's offset": with_offset(plain),
        "mean of its genres, and the user's offset": with_offset(told),
        "closed-form prior, genres in it": prior.predict,
    }
    errors = {name: _errors(answer, users, cold) for name, answer in answers.items()}
    rows = []
    for name, values in errors.items():
        mean, ci95 = mean_and_interval(values)
        against = difference(values, errors["and the user's offset"])
        rows.append({"name": name, "rmse": mean, "ci95": ci95, "against_offset": against})
    judged = int((~np.isnan(values)).sum())
    return [row | {"num_films": int(cold.sum()), "num_users": judged} for row in rows]


def _errors(answer: Answer, users: Sequence[Viewer], cold: np.ndarray) -> np.ndarray:
    """RMSE of each user on the films held out `[T]`; NaN for who has rated none of them."""
    found = []
    for user in users:
        films, asked = user.known[~cold[user.known]], user.asked[cold[user.asked]]
        error = np.clip(answer(films, user.row[films])[asked], 1.0, 5.0) - user.row[asked]
        found.append(np.sqrt(np.mean(error**2)) if len(asked) else np.nan)
    return np.asarray(found)
