"""New users of a film service: ratings and rankings from one to twenty ratings of theirs.

Claim: a network trained over users tells their other ratings better than the Gaussian prior over
  all ratings does in closed form, and ranks films better than EASE; w takes further ratings.
Command: python -m experiments.recommender --data-dir DIR
Expected: the tables in experiments/films/RESULTS.md.
Time: ten minutes on 2 CPU cores.

The data are MovieLens 100k, for research alone and not to be passed on: `ml100k.npz` in DIR.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.common.command_line import as_settings, check_finite, flag, in_a_sentence, parse
from experiments.common.documents import plus_minus, report, table
from experiments.common.run import begin
from experiments.common.training_loop import cache_compilations
from experiments.films import cold, few, judging, learner, plots, serving, training
from experiments.films.competition import Competition, enter
from experiments.films.data import MOST_RATINGS, Ratings, Viewer, load, split, viewers
from experiments.films.judging import Method
from experiments.films.table import crossed
from jaxmeta import checkpoint

OURS = "taste, this library"


@dataclass(frozen=True)
class Options:
    """The command line."""

    data_dir: str | None = flag(None, "folder of the data set (or JAXMETA_DATA)")
    ratings: tuple[int, ...] = flag((1, 5, 10, 20), "how many ratings of a user are known")
    factors: int = flag(128, "columns of the prior's root that a user's w is of")
    steps: int = flag(1000, "outer steps")
    seed: int = flag(0, "of the split of the users, of all orders and of the training")
    resume: bool = flag(False, "go on from the states in --out")
    json: bool = flag(False, "print result.json to standard output")
    out: Path = flag(Path("runs/recommender"), "folder for all that is written")


def train(options: Options, ratings: Ratings, users: Any, rivals: Competition) -> tuple[Any, Any]:
    """The learner, its theta for new users, and the seconds of its training."""
    matrix, genres = ratings.of(users["train"]), ratings.genres
    size = min(options.factors, len(genres))
    regulariser = rivals.chosen["EASE"]
    films, blocks = training.described(
        options.out / "films.npz",
        {"seed": options.seed, "size": size, "chosen": rivals.chosen},
        go_on=options.resume,
        describe=lambda: crossed(
            matrix, genres, rivals.setting, rivals.prior, size=size, regulariser=regulariser
        ),
    )
    theta, seconds = training.train(
        films,
        matrix,
        blocks,
        seed=options.seed,
        steps=options.steps,
        out=options.out,
        go_on=options.resume,
    )
    check_finite(theta, f"taste after {options.steps} outer steps")
    return serving.first_block(theta, len(genres)), (films, seconds)


def judge(methods: list[Method], users: list[Viewer], sizes: tuple[int, ...]) -> list[dict]:
    """The rows of all methods for each number of ratings, with paired differences."""
    rows = []
    for size in sizes:
        worth = {each.name: judging.measure(each, users, size) for each in methods}
        for name, found in worth.items():
            row = judging.row_of(name, size, found)
            row["against_prior"] = judging.difference(found.rmse, worth["closed-form prior"].rmse)
            row["against_ease"] = judging.difference(found.ndcg, worth["EASE"].ndcg)
            rows.append(row)
    return rows


def aside(document: dict[str, Any]) -> str:
    """The smaller tables: few films, cold films, times."""
    few_films = [
        {
            "films left in w": str(row["films"]),
            "RMSE": plus_minus(row["rmse"], row["ci95"], scale=1.0, digits=3),
            "than with all": judging.difference_as_text(row["against_all"]),
        }
        for row in document["few_films"]
    ]
    cold_films = [
        {
            "films without a rating": row["name"],
            "RMSE": plus_minus(row["rmse"], row["ci95"], scale=1.0, digits=3),
            "than with the offset": judging.difference_as_text(row["against_offset"]),
        }
        for row in document["cold_films"]
    ]
    lines = [table(few_films)]
    for films in document["films_that_matter"]:
        lines.append("\n".join(_of_film(each) for each in films))
    costs = ", ".join(f"{name} {value:.0f}" for name, value in document["times"].items())
    return "\n\n".join([*lines, table(cold_films), costs])


def _of_film(film: dict[str, Any]) -> str:
    genres = ", ".join(film["genres"])
    return (
        f"film {film['film']} ({genres}): rated {film['rating']:.0f}, "
        f"{film['expected']:.1f} expected, weight {film['weight']:+.2f}"
    )


@in_a_sentence
def main(arguments: list[str] | None = None) -> int:
    """Fit the rivals, train, judge, draw, and write everything down."""
    options = parse(Options, arguments, experiment="recommender", description=__doc__)
    if max(options.ratings) > MOST_RATINGS:
        raise ValueError(
            f"All but {MOST_RATINGS} ratings of a user are asked for, so that --ratings is at "
            f"most {MOST_RATINGS}; got {max(options.ratings)}."
        )
    begin(options.out, go_on=options.resume)
    ratings = load(options.data_dir)
    users, num_films = split(len(ratings.matrix), options.seed), len(ratings.genres)
    valid, test = (viewers(ratings, users[part], options.seed) for part in ("valid", "test"))
    matrix = ratings.of(users["train"])
    rivals = enter(matrix, ratings.genres, valid, options.ratings)
    theta, (films, seconds) = train(options, ratings, users, rivals)
    model = learner.taste(films, training.HIDDEN)
    rate, rank = (serving.answers(model, theta, num_films, column) for column in (0, 1))
    rows = judge([*rivals.methods, Method(OURS, rate, rank)], test, options.ratings)
    document = {"config": as_settings(options), "results": rows, "chosen": rivals.chosen}
    document |= {"few_films": few.judge(rivals.prior, test)}
    document |= {"films_that_matter": few.examples(rivals.prior, ratings.genres, test[:2])}
    document["cold_films"] = cold.judge(
        matrix,
        ratings.genres,
        test,
        rivals.setting,
        seed=options.seed,
        offset=rivals.chosen["offset"],
    )
    document |= {"times": serving.times(model, theta, test[0]), "seconds": seconds}
    document["versions"] = checkpoint.versions()
    plots.by_ratings(rows, options.out / "by_ratings.png")
    text = f"{judging.as_text(rows)}\n\n{aside(document)}"
    report(document, text, path=options.out / "result.json", as_json=options.json)
    return 0


if __name__ == "__main__":
    cache_compilations()
    sys.exit(main())
