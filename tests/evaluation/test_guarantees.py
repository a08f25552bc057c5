"""What holds for any distribution: intervals by betting, limits, sets; and calibration."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxmeta import sparsity
from jaxmeta.evaluation import (
    betting_interval,
    brier_score,
    calibration_error,
    conformal_threshold,
    occam_bound,
    prediction_set,
    tolerance_limit,
)


def test_the_interval_by_betting_covers_what_is_skewed():
    """Rare zeros among ones, for which the normal interval fails at so few values."""
    covered, normal = 0, 0
    for seed in range(200):
        values = (np.random.default_rng(seed).random(30) < 0.97).astype(float)
        low, high = betting_interval(values)
        covered += low <= 0.97 <= high
        half = 1.96 * values.std(ddof=1) / math.sqrt(30)
        normal += abs(values.mean() - 0.97) <= half
    assert covered >= 190 > normal


def test_it_is_narrow_where_values_are():
    values = np.clip(np.random.default_rng(0).normal(0.971, 0.026, 1000), 0, 1)
    low, high = betting_interval(values)
    assert low < values.mean() < high and high - low < 0.02
    assert betting_interval(values, 0.99)[0] < low
    assert 0 <= betting_interval([0.5])[0] < betting_interval([0.5])[1] <= 1


def test_it_is_what_a_search_over_all_means_leaves():
    values = np.random.default_rng(1).beta(2, 5, 50)
    count = np.arange(1, 51)
    means = (0.5 + np.cumsum(values)) / (count + 1)
    spread = (0.25 + np.cumsum((values - means) ** 2)) / (count + 1)
    bets = np.sqrt(2 * np.log(2 / 0.05) / (50 * np.r_[0.25, spread[:-1]]))
    kept = []
    for m in np.linspace(0.001, 0.999, 999):
        more = np.cumprod(1 + np.minimum(bets, 0.5 / m) * (values - m))
        less = np.cumprod(1 - np.minimum(bets, 0.5 / (1 - m)) * (values - m))
        if max(more.max(), less.max()) / 2 < 20:
            kept.append(m)
    np.testing.assert_allclose(betting_interval(values), (kept[0], kept[-1]), atol=2e-3)


@pytest.mark.parametrize(
    ("values", "level"), [([0.5, 1.1], 0.9), ([], 0.9), ([np.nan], 0.9), ([0.5], 1.0)]
)
def test_what_no_bet_is_on_is_refused(values, level):
    with pytest.raises(ValueError, match=r"numbers in 0\.\.1|level"):
        betting_interval(values, level)


def test_new_tasks_reach_the_limit_as_often_as_is_said():
    held = 0
    for seed in range(300):
        limit = tolerance_limit(np.random.default_rng(seed).random(100), 0.9, 0.95)
        held += 1 - limit >= 0.9
    assert held >= 0.95 * 300 - 10
    values = np.random.default_rng(0).random(200)
    k = next(k for k in range(200, -1, -1) if stats.binom.cdf(k - 1, 200, 0.05) <= 0.05)
    assert tolerance_limit(values) == np.sort(values)[k - 1]
    assert tolerance_limit(values[:20]) == -math.inf
    with pytest.raises(ValueError, match="share and confidence"):
        tolerance_limit(values, 1.0)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_sets_hold_the_class_of_a_new_task_at_the_level(level):
    rng = np.random.default_rng(0)
    held = []
    for _ in range(2000):
        scores = rng.beta(1, 4, 20)
        held.append(scores[-1] <= conformal_threshold(scores[:-1], level))
    exact = math.ceil(20 * level - 1e-9) / 20
    assert abs(np.mean(held) - exact) < 3 * math.sqrt(exact * (1 - exact) / 2000)


def test_a_threshold_is_a_score_or_infinite():
    scores = [0.3, 0.1, 0.2, 0.9, 0.5, 0.4, 0.7, 0.6, 0.8]
    assert conformal_threshold(scores, 0.9) == 0.9 and conformal_threshold(scores, 0.5) == 0.5
    assert conformal_threshold(scores, 0.91) == math.inf == conformal_threshold([], 0.5)
    sets = prediction_set([[0.7, 0.2, 0.1], [0.4, 0.3, 0.3]], 0.7)
    np.testing.assert_array_equal(sets, [[True, False, False], [True, True, True]])
    assert prediction_set([[0.7, 0.3]], math.inf).all()
    for bad, level in (([0.1, np.nan], 0.5), ([0.1], 0.0)):
        with pytest.raises(ValueError, match="NaN|level"):
            conformal_threshold(bad, level)


def test_calibration_is_of_bins_of_equally_many_rows():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1.0, 3000)
    p = np.c_[confidence, 1 - confidence]
    fair = np.where(rng.random(3000) < confidence, 0, 1)
    assert calibration_error(p, fair) < 0.05
    assert calibration_error(p, fair, debiased=True) < calibration_error(p, fair)
    assert calibration_error(p, np.zeros(3000, int)) == pytest.approx(1 - confidence.mean())
    order, total = np.argsort(confidence), 0.0
    for rows in np.array_split(order, 15):
        total += len(rows) / 3000 * abs((fair[rows] == 0).mean() - confidence[rows].mean())
    assert calibration_error(p, fair) == pytest.approx(total)
    assert calibration_error(p[:1], [0]) == pytest.approx(p[0, 1])


def test_without_its_bias_the_error_of_fair_rows_is_less():
    rng = np.random.default_rng(0)
    plain, less = [], []
    for _ in range(50):
        confidence = rng.uniform(0.5, 1.0, 150)
        p, y = np.c_[confidence, 1 - confidence], (rng.random(150) > confidence).astype(int)
        plain.append(calibration_error(p, y))
        less.append(calibration_error(p, y, debiased=True))
    assert np.mean(less) < 0.7 * np.mean(plain)


def test_brier_is_the_squared_distance():
    p, y = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]), np.array([0, 1])
    assert brier_score(p, y) == pytest.approx(
        (0.3**2 + 0.2**2 + 0.1**2 + 0.1**2 + 0.9**2 + 0.8**2) / 2
    )
    for function in (brier_score, calibration_error):
        with pytest.raises(ValueError, match=r"probabilities \[N, C\]"):
            function(p, y[:1])


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in ((p, q), (1 - p, 1 - q)) if a)


def test_the_bound_of_a_sparse_w_is_where_the_divergence_is():
    """k = 12 of W = 150 at 8 bits, training error 0.15, at 100 to 5,000 rows."""
    w = jnp.zeros(150).at[:12].set(1.0)
    bits = sparsity.description_bits(w)
    assert bits == pytest.approx(math.log2(math.comb(150, 12)) + 12 * 8 + 2 * math.log2(13))
    for rows, want in ((100, 0.84), (250, 0.62), (1000, 0.37), (5000, 0.24)):
        bound = occam_bound(0.15, bits, rows)
        assert bound == pytest.approx(want, abs=0.01)
        code = bits * math.log(2) + math.log(2 * math.sqrt(rows) / 0.05)
        assert kl(0.15, bound) == pytest.approx(code / rows, abs=1e-9)
    assert occam_bound(0.0, 1e6, 100) == pytest.approx(1.0)
    assert sparsity.description_bits(jnp.zeros(5)) == 0.0
    with pytest.raises(ValueError, match="occam_bound reads"):
        occam_bound(1.5, 10.0, 100)
