"""Films and new users, at toy size: the contract, no leakage, oracles, and what is refused."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import recommender
from experiments.films import (
    cold,
    competition,
    crossing,
    few,
    judging,
    learner,
    prior,
    rivals,
    serving,
    table,
)
from experiments.films import training as films_training
from experiments.films.data import Viewer, load, split, support_of, tasks_of, viewers
from experiments.films.judging import Method
from jaxmeta import Task

NUM_USERS, NUM_FILMS = 60, 50
SETTING = prior.Setting(strength=10.0, iterations=3)
SMALL = (SETTING, SETTING._replace(noise=0.7))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sixty users of fifty films, who rate about three in five of them by two tastes."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    liking = rng.normal(size=(NUM_USERS, 2)) @ rng.normal(size=(2, NUM_FILMS))
    rating = np.clip(np.round(3.4 + 0.8 * liking + 0.4 * rng.normal(size=liking.shape)), 1, 5)
    user, item = np.nonzero(rng.random(rating.shape) < 0.6)
    arrays = {"user": user, "item": item, "rating": rating[user, item].astype(np.int8)}
    (root / "movielens").mkdir()
    genres = (rng.random((NUM_FILMS, 19)) < 0.15).astype(np.int8)
    np.savez(root / "movielens" / "ml100k.npz", item_genres=genres, **arrays)
    return root


@pytest.fixture(scope="module")
def ratings(folder):
    return load(str(folder))


@pytest.fixture(scope="module")
def known(ratings):
    """The prior of the training users, and the table of one block."""
    matrix = ratings.of(split(NUM_USERS, 0)["train"])
    found = prior.fit(matrix, ratings.genres, SETTING)
    films = table.describe(matrix, ratings.genres, found, size=NUM_FILMS, regulariser=20.0)
    return found, films


@pytest.fixture(scope="module")
def trained(known):
    """The learner with a network that says something, and its theta."""
    model = learner.taste(known[1], 8)
    rows = support_of(np.arange(3), np.ones(3))
    theta = model.init(jax.random.key(0), Task(rows, rows))
    last = {"kernel": 0.3 * jax.random.normal(jax.random.key(1), (8, 2)), "bias": jnp.ones(2)}
    return model, theta | {"network": [*theta["network"][:-1], last]}


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


def test_support_and_query_of_a_task_share_no_rating(ratings):
    sampler = jax.jit(tasks_of(ratings.matrix[7:8], np.zeros(1, int)))
    row = ratings.matrix[7]
    for seed in range(12):
        task = jax.device_get(sampler(jax.random.key(seed)))
        films = task.support.x[task.support.mask > 0, 0]
        real = task.query.mask > 0
        asked, (rating, rated) = task.query.x[real, 0], task.query.y[real].T
        assert 1 <= len(films) <= 20 and not np.isin(asked, films).any()
        assert len(np.unique(asked)) == len(asked) == NUM_FILMS - len(films)
        np.testing.assert_array_equal(task.support.y[: len(films), 0], row[films])
        np.testing.assert_array_equal(rated, ~np.isnan(row[asked]))
        np.testing.assert_array_equal(rating, np.nan_to_num(row[asked]))


def test_ndcg_is_that_of_its_definition():
    row = np.array([5.0, 4.0, 1.0, np.nan, 5.0, np.nan])
    user = Viewer(np.array([0]), np.array([1, 2, 4]), row)
    scores = np.array([9.0, 1.0, 3.0, 5.0, 4.0, 0.0])
    # The order is 3, 4, 2, 1, 5 without the known film 0; 4 and 1 are liked.
    expected = (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3))
    assert judging.ndcg_at(scores, user) == pytest.approx(expected)
    assert judging.ndcg_at(scores, user, top=2) == pytest.approx(
        (1 / math.log2(3)) / (1 + 1 / math.log2(3))
    )
    assert math.isnan(judging.ndcg_at(scores, user._replace(asked=np.array([2]))))


def test_the_closed_form_is_the_conditional_mean(known):
    found, films, values = known[0], np.array([3, 7, 11]), np.array([5.0, 2.0, 4.0])
    joint = found.covariance.astype(float) + found.noise * np.eye(NUM_FILMS)
    rest = np.setdiff1d(np.arange(NUM_FILMS), films)
    precision = np.linalg.inv(joint)
    # Of a Gaussian: E[y_rest | y_films] by the precision matrix, which is another formula.
    shift = precision[np.ix_(rest, films)] @ (values - found.mean[films])
    expected = found.mean[rest] - np.linalg.solve(precision[np.ix_(rest, rest)], shift)
    np.testing.assert_allclose(found.predict(films, values)[rest], expected, rtol=1e-4)


def test_expectation_maximisation_raises_the_likelihood(ratings):
    def likelihood(found):
        total = 0.0
        for row in ratings.matrix.astype(float):
            held = np.flatnonzero(~np.isnan(row))
            gram = found.covariance[np.ix_(held, held)] + found.noise * np.eye(len(held))
            y = row[held] - found.mean[held]
            total -= y @ np.linalg.solve(gram.astype(float), y) + np.linalg.slogdet(gram)[1]
        return total

    fits = [SETTING._replace(strength=0.1, iterations=each) for each in (0, 2, 6)]
    found = [likelihood(prior.fit(ratings.matrix, ratings.genres, each)) for each in fits]
    assert found[0] < found[1] < found[2]


def test_ridge_on_all_factors_is_the_closed_form(known):
    found, films = known
    model = learner.closed_form(films)
    support = support_of(np.array([3, 7, 11]), np.array([5.0, 2.0, 4.0]))
    theta = model.init(jax.random.key(0), Task(support, support))
    w = model.adapt(theta, support)
    z = model.predict(theta, w, jnp.arange(NUM_FILMS)[:, None])[:, 0]
    expected = found.predict(np.array([3, 7, 11]), np.array([5.0, 2.0, 4.0]))
    np.testing.assert_allclose(z, expected, atol=2e-4)


def test_extend_is_adapt_on_all_ratings(trained):
    model, theta = trained
    films, values = np.array([3, 7, 11, 20, 31]), np.array([5.0, 2.0, 4.0, 1.0, 3.0])
    whole = model.adapt(theta, support_of(films, values))
    w = model.adapt(theta, support_of(films[:2], values[:2]))
    for film, value in zip(films[2:], values[2:], strict=True):
        w = model.extend(theta, w, support_of(np.array([film]), np.array([value]), size=1))
    x = jnp.arange(NUM_FILMS)[:, None]
    z = model.predict(theta, w, x)
    np.testing.assert_allclose(z, model.predict(theta, whole, x), atol=2e-4)


def test_a_learner_starts_at_the_closed_form_and_at_ease(known, ratings):
    model = learner.taste(known[1], 8)
    films, values = np.array([3, 7]), np.array([5.0, 2.0])
    support = support_of(films, values)
    theta = model.init(jax.random.key(0), Task(support, support))
    z = model.predict(theta, model.adapt(theta, support), jnp.arange(NUM_FILMS)[:, None])
    np.testing.assert_allclose(z[:, 0], known[0].predict(films, values), atol=2e-4)
    matrix = ratings.of(split(NUM_USERS, 0)["train"])
    scores = learner.EASE_SCALE * rivals.ease(matrix, 20.0)(films, values)
    np.testing.assert_allclose(z[:, 1], scores, atol=1e-3)


def test_few_films_are_the_largest_weights(known, ratings):
    (user, *_) = viewers(ratings, np.arange(NUM_USERS), 0)
    whole = known[0].weights(user.known, user.row[user.known])
    whole = whole * np.sqrt(np.diag(known[0].covariance)[user.known])
    left = few.kept(known[0], user.known, user.row[user.known], 3)
    assert (left != 0).sum() == 3
    assert set(np.flatnonzero(left)) == set(np.argsort(-np.abs(whole))[:3])
    films = user.known[left != 0]
    again = known[0].weights(films, user.row[films])
    np.testing.assert_allclose(left[left != 0], again, rtol=1e-5)
    (rows,) = few.examples(known[0], ratings.genres, [user], most=3)
    assert all(user.row[each["film"] - 1] == each["rating"] for each in rows)


def test_cold_films_are_told_without_their_ratings(ratings):
    users = viewers(ratings, np.arange(40, NUM_USERS), 0)
    matrix, held = ratings.matrix[:40], cold.held_out(NUM_FILMS, 0)
    assert held.any() and not held.all()
    spoiled = np.where(held & ~np.isnan(matrix), 1.0, matrix)
    found = [
        cold.judge(each, ratings.genres, users, SETTING, seed=0, offset=4.0)
        for each in (matrix, spoiled)
    ]
    assert found[0] == found[1] and found[0][0]["num_users"] <= len(users)


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
