"""New users of a film service at toy size: the contract, no leakage, and what is refused."""

import json

import jax
import numpy as np
import pytest

from experiments import recommender
from experiments.films import (
    cold,
    competition,
    crossing,
    few,
    judging,
    prior,
    rivals,
    serving,
    table,
)
from experiments.films import training as films_training
from experiments.films.data import load, split, tasks_of, viewers
from experiments.films.judging import Method
from tests.experiments.conftest import NUM_FILMS, NUM_USERS, SETTING, SMALL


@pytest.mark.slow
def test_recommender_writes_the_contract_and_goes_on(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(competition, "PRIORS", SMALL)
    for grid in ("NEIGHBOURS", "FACTORS", "IMPLICIT"):
        monkeypatch.setattr(competition, grid, getattr(competition, grid)[:2])
    for module in (table, crossing):
        monkeypatch.setattr(module, "FOLDS", 2)
    monkeypatch.setattr(films_training, "TASKS", 2)
    monkeypatch.setattr(films_training, "HIDDEN", 4)
    flags = ["--data-dir", str(folder), "--ratings", "1", "5", "--factors", "16", "--json"]
    flags += ["--steps", "2", "--out", str(tmp_path)]
    assert recommender.main(flags) == 0
    said = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    rows = said["results"]
    assert said["config"]["seed"] == 0 and len(rows) == 2 * 8
    assert {row["ratings"] for row in rows} == {1, 5}
    for row in rows:
        assert {"name", "rmse", "ci95", "mae", "ndcg10", "num_users"} <= set(row)
        assert row["rmse"] is not None or row["ndcg10"] is not None
    ours = [row for row in rows if row["name"] == recommender.OURS]
    assert all(0.2 < row["rmse"] < 2 and 0 < row["ndcg10"] <= 1 for row in ours)
    whole = [row for row in said["all_users"] if row["users"] == "both"]
    assert [row["num_users"] for row in whole] == 2 * [ours[0]["num_users"] + 42]
    assert said["cold_films"] and said["few_films"] and said["times"]["extend_one_rating_us"] > 0
    assert (tmp_path / "by_ratings.png").stat().st_size > 1000
    monkeypatch.setattr(recommender, "crossed", pytest.fail)
    assert recommender.main([*flags, "--resume"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["results"] == rows


def test_the_text_has_every_method_and_the_smaller_tables(known, ratings):
    found, users = known[0], viewers(ratings, np.arange(NUM_USERS), 0)[:6]
    matrix = ratings.of(split(NUM_USERS, 0)["train"])
    easy = Method("EASE", None, rivals.ease(matrix, 20.0))
    methods = [easy, Method("closed-form prior", found.predict, found.predict)]
    worth = {
        size: {each.name: judging.measure(each, users, size) for each in methods} for size in (1, 5)
    }
    text = judging.as_text(recommender.compared(worth))
    assert "1, EASE" in text and "5, closed-form prior" in text and "± " in text
    document = {
        "all_users": [],
        "few_films": few.judge(found, users),
        "films_that_matter": few.examples(found, ratings.genres, users[:1]),
        "cold_films": cold.judge(matrix, ratings.genres, users, SETTING, seed=0, offset=4.0),
        "times": {"extend_one_rating_us": 10.0},
    }
    text = recommender.aside(document)
    assert "films left in w" in text and "weight" in text and "extend_one_rating_us 10" in text


def test_users_of_one_part_are_in_no_other_and_follow_the_seed():
    parts = split(943, 0)
    assert [len(parts[each]) for each in ("train", "valid", "test")] == [660, 94, 189]
    assert len(np.unique(np.concatenate(list(parts.values())))) == 943
    assert (split(943, 0)["test"] == parts["test"]).all()
    assert (split(943, 1)["test"] != parts["test"]).any()


def test_queries_are_the_same_however_many_ratings_are_known(ratings):
    users = viewers(ratings, np.arange(NUM_USERS), 0)
    assert users and all(len(each.known) == 20 and len(each.asked) for each in users)
    for each in users:
        films = np.sort(np.concatenate([each.known, each.asked]))
        np.testing.assert_array_equal(films, np.flatnonzero(~np.isnan(each.row)))


def test_nothing_of_test_users_is_learned(ratings):
    """Fitted to the same training rows, whatever the other rows hold."""
    parts = split(NUM_USERS, 0)
    other = ratings.matrix.copy()
    other[parts["test"]] = 1.0
    changed = ratings._replace(matrix=other)
    valid = viewers(ratings, parts["valid"], 0)
    seen = []
    for each in (ratings, changed):
        matrix = each.of(parts["train"])
        found = prior.fit(matrix, each.genres, SETTING)
        answer = rivals.als(matrix, 2, 3.0, 4.0)(valid[0].known, valid[0].row[valid[0].known])
        seen.append((found.mean, found.covariance, answer))
    for ours, theirs in zip(*seen, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_no_answer_reads_a_query_rating(known, ratings, trained):
    model, theta = trained
    answer = [
        known[0].predict,
        *(serving.answers(model, theta, NUM_FILMS, column) for column in (0, 1)),
    ]
    answer += [rivals.shrunk_offset(ratings.matrix[:30], 4.0), rivals.popularity(ratings.matrix)]
    methods = [Method("", each, each) for each in answer]
    (user, *_) = viewers(ratings, np.arange(30, NUM_USERS), 0)
    hidden = user.row.copy()
    hidden[user.asked] = np.nan
    told = []

    def watched(answer):
        def read(films, values):
            told.append((films, values))
            return answer(films, values)

        return read

    for method in methods:
        judging.measure(Method("", watched(method.rate), None), [user], 5)
    for films, values in told:
        np.testing.assert_array_equal(films, user.known[:5])
        np.testing.assert_array_equal(values, hidden[user.known[:5]])


def test_a_training_user_is_not_in_the_block_that_serves_it(ratings):
    matrix = ratings.of(split(NUM_USERS, 0)["train"])
    whole = prior.fit(matrix, ratings.genres, SETTING)
    options = {"size": 8, "regulariser": 20.0}
    films, blocks = table.crossed(matrix, ratings.genres, SETTING, whole, **options)
    assert len(films.mean) == (1 + table.FOLDS) * NUM_FILMS and blocks.min() == 1
    other = matrix.copy()
    other[blocks == 2] = 6.0 - other[blocks == 2]
    again, _ = table.crossed(other, ratings.genres, SETTING, whole, **options)
    pairs = zip(*(each.mean.reshape(6, -1) for each in (films, again)), strict=True)
    same = [bool((ours == theirs).all()) for ours, theirs in pairs]
    # The prior of all is given, and block 2 is of all but those whose ratings were turned round.
    assert same == [True, False, True, False, False, False]
    task = tasks_of(matrix, blocks)(jax.random.key(0))
    (block,) = np.unique(np.asarray(task.query.x)[:, 0] // NUM_FILMS)
    assert block >= 1


def test_what_is_no_data_set_of_ratings_is_refused(folder, tmp_path, monkeypatch, capsys):
    np.savez(tmp_path / "ml100k.npz", user=np.zeros(3, int))
    assert recommender.main(["--data-dir", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "lacks item, item_genres, rating" in capsys.readouterr().err
    flags = ["--data-dir", str(folder), "--ratings", "1", "21", "--out", str(tmp_path)]
    assert recommender.main(flags) == 2
    assert "at most 20" in capsys.readouterr().err
    monkeypatch.delenv("JAXMETA_DATA", raising=False)
    with pytest.raises(ValueError, match="--data-dir DIR"):
        load(None)
