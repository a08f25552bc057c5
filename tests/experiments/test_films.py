"""Films: rankings, the closed form and the learner beside it, against oracles."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.films import (
    cold,
    few,
    judging,
    learner,
    prior,
    rivals,
)
from experiments.films.data import Viewer, split, support_of, tasks_of, viewers
from jaxmeta import Task
from tests.experiments.conftest import NUM_FILMS, NUM_USERS, SETTING


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
