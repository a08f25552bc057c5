"""`FewShotClassifier`: what it fits, what it refuses, and what it leaves behind."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from jaxmeta.embeddings import FewShotClassifier
from tests.embeddings.features import task


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([FewShotClassifier()])
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


def test_more_is_known_with_names_and_with_rows():
    x, y, names, queries, labels = task(shots=3, rows=200, spread=2.5, vague=1.5, size=32)
    by_names = FewShotClassifier().fit(x[:0], [], names).score(queries, labels)
    by_rows = FewShotClassifier().fit(x, y).score(queries, labels)
    by_both = FewShotClassifier().fit(x, y, names).score(queries, labels)
    assert by_both > max(by_names, by_rows) and min(by_names, by_rows) > 0.5


def test_probabilities_are_in_the_order_of_the_classes():
    x, y, names, queries, _ = task()
    extra = names | {"a class by name alone": -sum(names.values())}
    model = FewShotClassifier().fit(x[::-1], y[::-1], extra)
    p = model.predict_proba(queries)
    assert list(model.classes_) == sorted(extra)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    np.testing.assert_array_equal(model.classes_[p.argmax(axis=1)], model.predict(queries))


@pytest.mark.parametrize("named", [True, False])
def test_partial_fit_is_fit_on_the_union(named):
    x, y, names, queries, _ = task()
    names = names if named else None
    whole = FewShotClassifier().fit(x, y, names)
    few = y != y[-1] if not named else np.arange(len(y)) < 2
    model = FewShotClassifier().fit(x[few], y[few], names).partial_fit(x[~few], y[~few])
    assert list(model.classes_) == list(whole.classes_)
    np.testing.assert_allclose(
        model.predict_proba(queries), whole.predict_proba(queries), atol=1e-5
    )


def test_uneven_classes_and_missing_names_are_served():
    x, y, names, queries, labels = task(shots=12, spread=0.4)
    kept = (y != y[0]) | (np.arange(len(y)) < 1)
    del names[y[-1]]
    assert FewShotClassifier().fit(x[kept], y[kept], names).score(queries, labels) > 0.9


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
def test_the_unit_of_the_features_changes_nothing(scale):
    x, y, _, queries, _ = task()
    want = FewShotClassifier().fit(x, y).predict_proba(queries)
    got = FewShotClassifier().fit(x * scale, y).predict_proba(queries * scale)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_rows_that_are_all_alike_or_zero_give_no_nan():
    for x in (np.zeros((4, 3)), np.ones((4, 3))):
        p = FewShotClassifier().fit(x, [0, 0, 1, 1]).predict_proba(np.zeros((2, 3)))
        np.testing.assert_allclose(p, 0.5, atol=1e-3)


def refused():
    x, y, names, _, _ = task()
    some = {y[0]: names[y[0]][:3]}
    return [
        ((x, y[:-1]), "12 rows and y has 11 labels"),
        ((x * np.nan, y), "NaN"),
        ((x, np.where(y == y[0], np.nan, 1.0)), "y contains NaN"),
        ((x, ["one"] * len(y)), "one class"),
        ((x[:0], []), "0 sample"),
        ((x[:0], [], some), "Names have 3 numbers and rows 16"),
        ((x, y, some), "Names have 3 numbers and rows 16"),
        ((x, y, names | some), r"that of 'class 00' has shape \(3,\)|the first has 3 numbers"),
        ((x, y, {y[0]: x[0] * np.inf}), "'class 00' holds NaN or infinity"),
        ((x, y, {y[0]: "a word"}), "'class 00' is no vector"),
        ((x, y, {y[0]: 0 * x[0]}), "'class 00' is all zeros"),
        ((x, y, list(names.values())), "names is a dict"),
        ((x, y, {7: x[0]}), "all text or all numbers"),
        ((x[:, 0], y), "2D array"),
    ]


@pytest.mark.parametrize(("given", "said"), refused())
def test_what_cannot_be_fitted_is_refused_in_a_sentence(given, said):
    x, y, names, queries, _ = task()
    model = FewShotClassifier().fit(x, y, names)
    want = model.predict_proba(queries)
    with pytest.raises(ValueError, match=said):
        model.fit(*given)
    np.testing.assert_array_equal(model.predict_proba(queries), want)


@pytest.mark.parametrize("parameters", [{"density": 0.0}, {"density": 2}, {"level": 1.0}])
def test_parameters_are_checked_by_name(parameters):
    (name,) = parameters
    with pytest.raises(ValueError, match=f"'{name}' parameter of FewShotClassifier must be"):
        FewShotClassifier(**parameters).fit(*task()[:2])


def test_a_tenth_of_the_weights_is_a_tenth():
    x, y, names, queries, labels = task(spread=0.4, size=64)
    model = FewShotClassifier(density=0.1).fit(x, y, names)
    assert np.count_nonzero(model.kernel_) == np.ceil(0.1 * model.kernel_.size)
    assert model.score(queries, labels) > 0.8
    assert "26 of 256 weights live" in model.explain()


def test_explain_says_what_each_class_was_told_by():
    x, y, names, _, _ = task()
    del names[y[0]]
    first, second, *_ = FewShotClassifier().fit(x, y, names).explain().splitlines()[1:]
    assert first.startswith("class 00: 3 rows; nearest class 0")
    assert second.startswith("class 01: 3 rows and a name; nearest class 0")


def test_a_stranger_is_stranger_than_the_rows_of_the_classes():
    x, y, names, queries, _ = task(spread=0.4, size=64)
    model = FewShotClassifier().fit(x, y, names)
    strangers = np.random.default_rng(1).normal(size=queries.shape)
    known, strange = model.outlier_score(queries), model.outlier_score(strangers)
    assert known.max() < strange.min()
    assert (known > model.outlier_threshold_).mean() < 0.1
    assert (strange > model.outlier_threshold_).mean() > 0.9


def test_sets_grow_with_the_level_and_hold_the_likeliest():
    x, y, names, queries, _ = task(shots=1, spread=2.0)
    model = FewShotClassifier().fit(x, y, names)
    small, large = model.predict_set(queries, level=0.6), model.predict_set(queries, level=0.95)
    assert small.any(axis=1).all() and not (small & ~large).any() and large.sum() > small.sum()
    assert small[np.arange(len(queries)), model.predict_proba(queries).argmax(axis=1)].all()
    np.testing.assert_array_equal(model.predict_set(queries), model.predict_set(queries, 0.9))
    with pytest.raises(ValueError, match="between 0 and 1"):
        model.predict_set(queries, level=1.5)


def test_a_copy_knows_what_was_learned_from_past_classes():
    model = FewShotClassifier(level=0.8)
    model.theta_ = model._theta()._replace(names=np.ones((2, 2)))
    assert clone(model).theta_ is model.theta_ and clone(model).level == 0.8
    assert not hasattr(clone(FewShotClassifier()), "theta_")


PROGRAM = """
import importlib.util, sys
import numpy as np
spec = importlib.util.spec_from_file_location("model", sys.argv[1])
model = importlib.util.module_from_spec(spec)
spec.loader.exec_module(model)
with np.load(sys.argv[2]) as want:
    x = want["x"]
    assert np.abs(model.predict_proba(x) - want["p"]).max() < 1e-5
    assert (model.predict(x) == want["labels"]).all()
    assert (model.predict_set(x) == want["sets"]).all()
    assert np.abs(model.outlier_score(x) - want["strange"]).max() < 1e-4
    assert abs(model.OUTLIER_THRESHOLD - want["threshold"]) < 1e-9
assert not {"jax", "sklearn", "jaxmeta", "scipy"} & set(sys.modules)
"""


@pytest.mark.parametrize("density", [None, 0.1])
def test_the_exported_file_predicts_with_numpy_alone(tmp_path, density):
    x, y, names, queries, _ = task(shots=1, spread=1.5)
    model = FewShotClassifier(density=density).fit(x, y, names)
    model.export(tmp_path / "model.py")
    np.savez(
        tmp_path / "want.npz",
        x=queries,
        p=model.predict_proba(queries),
        labels=model.predict(queries),
        sets=model.predict_set(queries),
        strange=model.outlier_score(queries),
        threshold=model.outlier_threshold_,
    )
    files = [str(tmp_path / "model.py"), str(tmp_path / "want.npz")]
    subprocess.run([sys.executable, "-c", PROGRAM, *files], check=True, cwd=tmp_path)
