"""Weights of rows are copies, those of classes are Bayes' rule, and no order of rows matters."""

import numpy as np
import pytest
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier
from sklearn.feature_selection import SelectFromModel

from jaxmeta.tabular import MetaClassifier
from jaxmeta.tabular._arrays import MOST_ROWS
from jaxmeta.tabular.estimator._weights import sample_rows


def table(rows=60, ways=2, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3))
    score = x[:, 0] - x[:, 1] + 0.5 * rng.normal(size=rows)
    return x, np.digitize(score, np.quantile(score, np.arange(1, ways) / ways))


@pytest.mark.parametrize("ways", [2, 3, 6])
def test_a_whole_weight_is_so_many_copies(ways):
    x, y = table(ways=ways)
    weights = np.random.default_rng(1).integers(0, 4, len(y))
    weights[:10] = 1
    rows = np.repeat(np.arange(len(y)), weights)
    weighted = MetaClassifier().fit(x, y, sample_weight=weights)
    copied = MetaClassifier().fit(x[rows][::-1], y[rows][::-1])
    np.testing.assert_array_equal(weighted.predict_proba(x), copied.predict_proba(x))


def test_equal_weights_are_none():
    x, y = table()
    want = MetaClassifier().fit(x, y).predict_proba(x)
    for weights in (np.ones(60), np.full(60, 1 / 60), np.full(60, 0.3, np.float32)):
        got = MetaClassifier().fit(x, y, sample_weight=weights).predict_proba(x)
        np.testing.assert_array_equal(got, want)


def test_rows_are_drawn_as_often_as_they_weigh():
    rng = np.random.default_rng(0)
    y, weights = rng.integers(0, 3, 200), rng.uniform(0.01, 3, 200)
    rows = sample_rows(y, weights, seed=0)
    copies = np.bincount(rows, minlength=200)
    expected = 200 * weights / weights.sum()
    assert abs(copies.sum() - 200) <= 1 and np.abs(copies - expected).max() < 1.0
    for c in range(3):
        assert abs(copies[y == c].sum() - expected[y == c].sum()) <= 1.0


def test_no_class_is_left_out_of_what_can_be_read():
    y = np.repeat([0, 1], [1000, 1])
    for weights in (np.where(y, 1e-6, 1.0), np.where(y, 0.5, 1e6), np.where(y, 1, 700)):
        rows = sample_rows(y, weights, seed=0)
        assert len(rows) <= MOST_ROWS and set(y[rows]) == {0, 1}


@pytest.mark.parametrize("ways", [2, 4, 7])
def test_class_weights_shift_the_log_odds(ways):
    x, y = table(120, ways=ways)
    plain, weights = MetaClassifier().fit(x, y), {0: 3.0, ways - 1: 0.5}
    heavy = MetaClassifier(class_weight=weights).fit(x, y)
    if ways <= 5:  # one model, so the rule is exact
        p = plain.predict_proba(x) * [weights.get(c, 1.0) for c in range(ways)]
        p /= p.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(heavy.predict_proba(x), p, atol=1e-9)
    assert (heavy.predict(x) == 0).sum() > (plain.predict(x) == 0).sum()
    gone = plain.explain().splitlines()[1]
    assert heavy.explain().splitlines()[1] != gone and gone.startswith("intercept")


def test_balanced_classes_are_found_as_often():
    rng = np.random.default_rng(0)
    y = (rng.random(400) < 0.1).astype(int)
    x = rng.normal(size=(400, 2)) + y[:, None]
    fit, new = slice(0, 200), slice(200, 400)
    recalls = {}
    for class_weight in (None, "balanced"):
        model = MetaClassifier(class_weight=class_weight).fit(x[fit], y[fit])
        recalls[class_weight] = model.predict(x[new])[y[new] == 1].mean()
    assert recalls["balanced"] > recalls[None] + 0.2


@pytest.mark.parametrize("weights", [np.zeros(60), -np.ones(60), np.full(60, np.nan), np.ones(59)])
def test_weights_that_cannot_be_are_refused(weights):
    x, y = table()
    with pytest.raises(ValueError, match=r"sample_weight|[wW]eights"):
        MetaClassifier().fit(x, y, sample_weight=weights)


def test_scikit_learns_ensembles_and_selectors_take_it():
    x, y = table()
    x = np.c_[np.zeros(60), x]
    for ensemble in (AdaBoostClassifier, BaggingClassifier):
        model = ensemble(MetaClassifier(), n_estimators=3, random_state=0).fit(x, y)
        assert model.score(x, y) > 0.8
    model = MetaClassifier().fit(x, y)
    shares = model.feature_importances_
    assert shares.sum() == pytest.approx(1.0) and shares[0] == 0.0
    assert min(shares[1:3]) > shares[3] >= 0.0
    chosen = SelectFromModel(MetaClassifier(), max_features=2, threshold=-1).fit(x, y)
    np.testing.assert_array_equal(chosen.get_support(), [False, True, True, False])


@pytest.mark.parametrize("ways", [2, 3, 7])
def test_the_decision_is_the_log_of_the_probabilities(ways):
    x, y = table(120, ways=ways)
    model = MetaClassifier().fit(x, y)
    scores, p = model.decision_function(x), model.predict_proba(x)
    if ways == 2:
        np.testing.assert_allclose(scores, np.log(p[:, 1] / p[:, 0]), atol=1e-9)
        return
    soft = np.exp(scores - scores.max(axis=1, keepdims=True))
    np.testing.assert_allclose(soft / soft.sum(axis=1, keepdims=True), p, atol=1e-9)
