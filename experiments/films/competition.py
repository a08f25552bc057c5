"""Every rival with the settings that are best for validation users."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.films import rivals
from experiments.films.data import Viewer
from experiments.films.judging import Method, choose
from experiments.films.prior import ItemPrior, Setting, fit

OFFSETS = (1.0, 2.0, 4.0, 6.0, 9.0)
NEIGHBOURS = tuple(itertools.product((30.0, 60.0, 120.0), (10, 20), (4.0,)))
FACTORS = tuple(itertools.product((4, 8, 16, 24), (4.0, 8.0), (4.0,)))
ALIKE = (5.0, 20.0, 80.0, 300.0)
EASES = (500.0, 1000.0, 2000.0, 4000.0, 8000.0)
IMPLICIT = tuple(itertools.product((16,), (30.0, 100.0), (1.0, 4.0)))
PRIORS = (
    Setting(strength=50.0, own=0.15, alike=0.0, noise=0.6),
    Setting(strength=100.0, own=0.1, alike=0.1, noise=0.5),
    Setting(strength=200.0, own=0.1, alike=0.15, noise=0.6),
)


class Competition(NamedTuple):
    """What the rivals are, and how they were set."""

    methods: list[Method]
    prior: ItemPrior
    setting: Setting
    chosen: dict[str, Any]


def enter(
    matrix: np.ndarray, genres: np.ndarray, valid: Sequence[Viewer], sizes: Sequence[int]
) -> Competition:
    """Fit all rivals to the ratings of training users, and choose by validation users."""
    priors = {setting: fit(matrix, genres, setting) for setting in PRIORS}
    setting, _ = choose(PRIORS, lambda each: priors[each].predict, valid, sizes)
    prior = priors[setting]
    tuned = {
        "offset": (OFFSETS, lambda each: rivals.shrunk_offset(matrix, each), False),
        "item-kNN": (NEIGHBOURS, lambda each: rivals.neighbours(matrix, *each), False),
        "ALS": (FACTORS, lambda each: rivals.als(matrix, *each), False),
        "item-kNN, ranking": (ALIKE, lambda each: rivals.ranked_neighbours(matrix, each), True),
        "EASE": (EASES, lambda each: rivals.ease(matrix, each), True),
        "ALS, ranking": (IMPLICIT, lambda each: rivals.implicit_als(matrix, *each), True),
    }
    best: dict[str, Any] = {}
    for name, (settings, build, ranks) in tuned.items():
        best[name] = choose(settings, build, valid, sizes, ranks=ranks)
    chosen = {name: each for name, (each, _) in best.items()} | {"prior": setting._asdict()}
    answer = {name: found for name, (_, found) in best.items()}
    methods = [
        Method("film mean", rivals.shrunk_offset(matrix, np.inf), None),
        Method("film mean + user offset", answer["offset"], None),
        Method("popularity", None, rivals.popularity(matrix)),
        Method("item-kNN", answer["item-kNN"], answer["item-kNN, ranking"]),
        Method("EASE", None, answer["EASE"]),
        Method("ALS fold-in", answer["ALS"], answer["ALS, ranking"]),
        Method("closed-form prior", prior.predict, prior.predict),
    ]
    return Competition(methods, prior, setting, chosen)
