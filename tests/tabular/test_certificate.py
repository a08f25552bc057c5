"""A certificate of a table: the rows that a fit did not read bound the error on new ones."""

import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import make_classification

from jaxmeta.tabular import MetaClassifier


def rows(n, seed=0):
    return make_classification(n, 6, flip_y=0.2, random_state=seed)


def fitted(X, y, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MetaClassifier(n_nonzero=8, **options).fit(X, y)


def test_the_bound_is_that_of_a_test_on_the_rows_not_read():
    X, y = rows(700)
    model = fitted(X, y)
    found = model.certificate(X, y, confidence=0.9)
    assert found.num_rows == 700 - 256
    wrong = round(found.error * found.num_rows)
    # The error at which so few wrong rows have one chance in ten.
    assert stats.binom.cdf(wrong, found.num_rows, found.bound) == pytest.approx(0.1, abs=1e-9)
    assert f"{100 * found.bound:.1f}%" in str(found)
    assert model.certificate(X, y).bound > found.bound


def test_it_covers_the_error_on_new_rows():
    held = 0
    X, y = rows(30_000)
    for seed in range(20):
        chosen = np.random.default_rng(seed).permutation(len(y))
        few, rest = chosen[:400], chosen[400:]
        model = fitted(X[few], y[few])
        error = (model.predict(X[rest]) != y[rest]).mean()
        held += error <= model.certificate(X[few], y[few], confidence=0.8).bound
    assert held >= 12  # 16 of 20 are due


def test_rows_that_were_all_read_say_nothing_of_others():
    X, y = rows(200)
    found = fitted(X, y).certificate(X, y)
    assert found.bound == 1.0 and found.num_rows == 0 and "read all" in str(found)


def test_other_rows_and_weights_are_refused():
    X, y = rows(400)
    model = fitted(X, y)
    for others in ((X[:-1], y[:-1]), (X, 1 - y), (X + 1e-3, y)):
        with pytest.raises(ValueError, match="the rows that fit had"):
            model.certificate(*others)
    with pytest.raises(ValueError, match="confidence"):
        model.certificate(X, y, confidence=1.0)
    with pytest.raises(ValueError, match="balanced"):
        fitted(X, y, class_weight="balanced").certificate(X, y)


def test_frames_names_and_many_classes_are_served():
    pandas = pytest.importorskip("pandas")
    X, y = make_classification(
        600, 6, n_informative=5, n_redundant=0, n_classes=7, n_clusters_per_class=1, random_state=0
    )
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    labels = np.array(list("tuvwxyz"))[y]
    found = fitted(frame, labels).certificate(frame, labels)
    assert 0 < found.error < found.bound < 0.7 and found.num_rows == 344
