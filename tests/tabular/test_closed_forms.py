"""The closed-form parts of the tabular meta-net against NumPy: terms, fits, the gate, contrasts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta.tabular.meta_net import _contrasts as contrasting
from jaxmeta.tabular.meta_net import _dictionary as dictionaries
from jaxmeta.tabular.meta_net import _logistic_path as banks
from jaxmeta.tabular.meta_net import _pruning
from tests.tabular.small_net import (
    COLUMNS,
    DESCRIPTION,
    LANDMARKS,
    LEARNER,
    ROWS,
    WAYS,
    answer,
    table,
)


@pytest.fixture(autouse=True)
def standard_promotion():
    """The parts are looked at one by one here; `tabular` sees to the promotion of the whole."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@functools.cache
def closed_form(ways=2):
    task = table(ways=ways)
    members = jax.nn.one_hot(task.support.y, WAYS)

    @jax.jit
    def run(support, members):
        dictionary, terms = dictionaries.build_dictionary(
            support, DESCRIPTION.categorical, members, num_landmarks=LANDMARKS
        )
        scales = banks.view_scales(dictionary, LANDMARKS)
        again = dictionaries.expand(dictionary, support.x)
        return dictionary, terms, again, scales, banks.fit_bank(terms, members, scales)

    return task, np.asarray(members), run


def test_terms_are_standardised_and_say_what_they_are_to_say():
    task, members, run = closed_form()
    dictionary, terms, again, _, _ = jax.device_get(run(task.support, members))
    np.testing.assert_allclose(again, terms, atol=2e-5)
    x, known = np.moveaxis(np.asarray(task.support.x), 1, 0)
    columns, places = dictionaries.term_columns(COLUMNS, LANDMARKS)
    live = dictionary.inverse_std > 0
    seen = np.concatenate([known[:, columns[columns < COLUMNS]], np.ones((ROWS, LANDMARKS))], 1)
    seen[:, places == dictionaries.TERMS - 1] = 1
    mean = (terms * seen).sum(axis=0) / seen.sum(axis=0)
    square = (terms**2 * seen).sum(axis=0) / seen.sum(axis=0)
    np.testing.assert_allclose(mean, 0.0, atol=1e-5)
    np.testing.assert_allclose(square[live], 1.0, rtol=1e-3)
    assert not terms[:, ~live].any()
    np.testing.assert_allclose(terms[:, 0], (x[:, 0] - x[:, 0].mean()) / x[:, 0].std(), atol=1e-4)
    rank = terms[:, 1]
    assert (np.diff(rank[np.argsort(x[:, 0])]) >= 0).all()
    lost = known[:, 1] == 0
    assert lost.any() and not terms[lost][:, 7:13].any()
    np.testing.assert_array_equal(terms[:, 13] > 0, lost)
    counts = np.bincount(x[:, 2].astype(int))
    np.testing.assert_array_equal(dictionary.levels[2, :3], np.lexsort((np.arange(3), -counts)))
    assert (dictionary.levels[2, 3:] == -1).all()
    for place, level in enumerate(dictionary.levels[2, :3]):
        np.testing.assert_array_equal(terms[:, 14 + place] > 0, x[:, 2] == level)


def fit_by_newton(z, members, penalty, steps=60):
    """Multinomial logistic regression in float64; `z [S, G]` has its intercept, `V [G, C]`."""
    ways = members.shape[1]
    v = np.zeros((z.shape[1], ways))
    for _ in range(steps):
        p = np.exp(z @ v)
        p /= p.sum(axis=1, keepdims=True)
        gradient = (z.T @ (p - members) + penalty * v).ravel()
        curvature = np.einsum("sc,cd->scd", p, np.eye(ways)) - np.einsum("sc,sd->scd", p, p)
        hessian = np.einsum("sg,scd,sh->gchd", z, curvature, z).reshape(v.size, v.size)
        v = v - np.linalg.solve(hessian + penalty * np.eye(v.size), gradient).reshape(v.shape)
    return v


def penalised_loss(z, members, v, penalty):
    log_p = z @ v - np.log(np.exp(z @ v).sum(axis=1, keepdims=True))
    return -(log_p * members).sum() + 0.5 * penalty * (v**2).sum()


@pytest.mark.parametrize("ways", [2, 3])
def test_each_fit_of_the_bank_is_a_penalised_logistic_regression(ways):
    task, members, run = closed_form(ways)
    _, terms, _, scales, bank = jax.device_get(run(task.support, members))
    present = members.sum(axis=0) > 0
    fits = iter(zip(bank.kernels, bank.biases, bank.logits, strict=True))
    for scale in scales:
        live = scale > 0
        z = np.concatenate([terms * scale, np.full((ROWS, 1), 30.0**0.5)], axis=1)
        z = z[:, np.append(live, True)].astype(np.float64)
        before = np.zeros((z.shape[1], present.sum()))
        for penalty, _ in banks.PENALTIES:
            kernel, bias, logits = (leaf[..., present] for leaf in next(fits))
            centred = logits - logits.mean(axis=-1, keepdims=True)
            np.testing.assert_allclose(centred, terms @ kernel + bias, atol=2e-3)
            found = np.concatenate([kernel[live] / scale[live, None], bias[None] / 30.0**0.5])
            loss = penalised_loss(z, members[:, present], found, penalty)
            # More than two classes and a weak penalty: a few steps do not reach the optimum.
            assert loss <= penalised_loss(z, members[:, present], before, penalty) + 1e-3
            if ways == 2 or penalty > 1:
                best = fit_by_newton(z, members[:, present], penalty)
                least = penalised_loss(z, members[:, present], best, penalty)
                assert -1e-4 < (loss - least) / ROWS < (0.002 if ways == 2 else 0.02)
            before = found


def test_left_out_logits_are_those_of_fits_without_the_row():
    task, members, run = closed_form()
    _, terms, _, scales, bank = jax.device_get(run(task.support, members))
    for view in range(banks.NUM_VIEWS):
        z = np.concatenate([terms * scales[view], np.full((ROWS, 1), 30.0**0.5)], axis=1)
        z = z.astype(np.float64)
        for row in range(0, ROWS, 5):
            rest = np.arange(ROWS) != row
            v = fit_by_newton(z[rest], members[rest][:, :2], 4.0)
            expected = (z[row] @ v)[1] - (z[row] @ v)[0]
            found = bank.left_out[view * len(banks.PENALTIES) + 1, row]
            assert abs(found[1] - found[0] - expected) < 0.15


@pytest.mark.slow
def test_before_training_w_mixes_fits_by_their_held_out_loss():
    task, members, run = closed_form()
    dictionary, _, _, _, bank = jax.device_get(run(task.support, members))
    z = np.where(members.sum(axis=0) > 0, bank.left_out, -np.inf)
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    loss = -np.where(members > 0, log_p, 0.0).sum(axis=(1, 2))
    pi = np.exp(-0.2 * (loss - loss.min()))
    pi /= pi.sum()
    start = LEARNER.init(jax.random.key(0), task)
    w = answer(start, task.support, task.query.x, DESCRIPTION)[1]
    kernel, bias = np.tensordot(pi, bank.kernels, 1), pi @ bank.biases
    np.testing.assert_allclose(w.kernel[: len(kernel), 0], kernel[:, 1] - kernel[:, 0], atol=1e-4)
    assert not w.kernel[len(kernel) :].any()
    np.testing.assert_allclose(w.bias[0], bias[1] - bias[0], atol=1e-4)
    np.testing.assert_array_equal(w.present, [True, True, False])


def brain_surgeon(hessian, kernel, num_terms):
    """Leave out one at a time what costs least, solving for the rest anew each time; float64."""
    left = list(range(len(hessian)))

    def refitted(left):
        gone = np.setdiff1d(np.arange(len(hessian)), left)
        pull = hessian[np.ix_(left, gone)] @ kernel[gone]
        found = np.zeros_like(kernel)
        found[left] = kernel[left] + np.linalg.solve(hessian[np.ix_(left, left)], pull)
        return found

    while len(left) > num_terms:
        tries = [refitted([term for term in left if term != each]) - kernel for each in left]
        left.pop(int(np.argmin([np.einsum("fc,fg,gc->", each, hessian, each) for each in tries])))
    return refitted(left)


@pytest.mark.parametrize("num_terms", [1, 3, 8])
def test_the_gate_is_the_optimal_brain_surgeon(num_terms, x64):
    rng = np.random.default_rng(num_terms)
    terms = rng.normal(size=(20, 9)) @ rng.normal(size=(9, 9))
    terms = np.insert(terms, 4, 0.0, axis=1)  # a term that never varies
    kernel, weights = rng.normal(size=(10, 3)), rng.random(20)
    found = jax.jit(_pruning.select_terms)(
        *map(x64, (kernel, terms, weights)), jnp.int32(num_terms)
    )
    hessian = (terms * weights[:, None]).T @ terms
    hessian = hessian + 0.01 * np.diag(np.diag(hessian))
    live = np.arange(10) != 4
    expected = brain_surgeon(hessian[np.ix_(live, live)], kernel[live], num_terms)
    np.testing.assert_allclose(found[live], expected, rtol=1e-6, atol=1e-9)
    assert not np.asarray(found)[4].any()
    np.testing.assert_array_equal((np.asarray(found) != 0).any(axis=1).sum(), num_terms)
    # The terms that are left depend on the kernel by steps; their weights, linearly.
    direction, pull = rng.normal(size=(2, 10, 3))
    said = jax.jit(lambda k: (_pruning.select_terms(k, terms, weights, num_terms) * pull).sum())
    slope = (said(kernel + 1e-6 * direction) - said(kernel - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose((jax.grad(said)(kernel) * direction).sum(), slope, rtol=1e-6)


def test_contrasts_are_terms_that_set_levels_against_levels():
    task, members, run = closed_form()
    dictionary, terms, *_ = jax.device_get(run(task.support, members))
    kernel = np.zeros((terms.shape[1], WAYS), np.float32)
    std = 1.0 / dictionary.inverse_std[14:17]
    kernel[14:17, 1] = np.asarray([2.0, 0.5, -1.5]) * std  # effects of the three levels
    kernel[0] = 1.0
    contrasts = np.asarray(contrasting.choose_contrasts(dictionary, kernel))
    shares = dictionary.mean[14:17]
    effects = np.asarray([2.0, 0.5, -1.5]) - shares @ np.asarray([2.0, 0.5, -1.5])
    sides = np.sign(effects) * (np.abs(effects) > 0.5 * np.abs(effects).max())
    np.testing.assert_array_equal(np.sign(contrasts[2, :3]), sides)
    assert not contrasts[:2].any() and not contrasts[2, 3:].any()
    more = np.asarray(contrasting.with_contrasts(terms, contrasts))
    found, codes = more[:, -1], np.asarray(task.support.x[:, 0, 2])
    raw = (codes[:, None] == dictionary.levels[2, :3]) @ sides
    np.testing.assert_allclose(found, (raw - raw.mean()) / raw.std(), atol=1e-4)
    moved = np.asarray(contrasting.say_by_contrasts(dictionary, jnp.asarray(kernel), contrasts))
    np.testing.assert_allclose(more @ moved, terms @ kernel, atol=1e-4)
    said = terms[:, 14:17] @ kernel[14:17, 1]
    np.testing.assert_allclose(moved[-1, 1], (found * said).mean(), atol=1e-4)
