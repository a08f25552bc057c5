"""`MetaClassifier` among scikit-learn's own: its checks, parameters, pools, frames and settings."""

import joblib
import numpy as np
import pandas
import polars
import pyarrow
import pytest
import sklearn
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.estimator_checks import parametrize_with_checks

from jaxmeta.tabular import MetaClassifier


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([MetaClassifier()])
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


def table(rows=60):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 3))
    x[:, 2] = rng.integers(0, 3, rows)
    y = (x[:, 0] - 2 * (x[:, 2] == 1) + 0.3 * rng.normal(size=rows) > 0).astype(int)
    return x, y


def frame(x):
    names = np.array(["red", "green", "blue"])[x[:, 2].astype(int)]
    return pandas.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": names})


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_nonzero": 0},
        {"n_nonzero": 2.5},
        {"n_nonzero": True},
        {"n_nonzero": "12"},
        {"random_state": -1},
        {"random_state": "a"},
        {"class_weight": "even"},
        {"class_weight": 3},
        {"categorical_features": 2.5},
    ],
)
def test_parameters_are_checked_by_name(parameters):
    (name,) = parameters
    with pytest.raises(ValueError, match=f"'{name}' parameter of MetaClassifier must be"):
        MetaClassifier(**parameters).fit(*table())


@pytest.mark.parametrize("seed", [3, np.int64(3), np.random.RandomState(3), None])
def test_any_random_state_and_any_number_of_terms_are_taken(seed):
    x, y = table()
    want = MetaClassifier().fit(x, y).predict_proba(x)
    got = MetaClassifier(10**12, random_state=seed).fit(x, y).predict_proba(x)
    np.testing.assert_array_equal(got, want)


def test_a_fit_that_fails_leaves_the_model_as_it_was():
    x, y = table()
    model = MetaClassifier().fit(frame(x), y)
    before = model.predict_proba(frame(x))
    for rows, labels in ((x[:, :2] + np.inf, y), (x[:, :2], y * 0), (x, y[:-1]), ([["p"], [1]], y)):
        with pytest.raises((TypeError, ValueError)):
            model.fit(rows, labels)
        np.testing.assert_array_equal(model.predict_proba(frame(x)), before)
        assert model.n_features_in_ == 3 and list(model.feature_names_in_) == ["a", "b", "c"]


def test_names_index_and_mask_choose_the_same_columns():
    x, y = table()
    numbers = pandas.DataFrame(x, columns=["a", "b", "c"])
    want = MetaClassifier(categorical_features=[2]).fit(x, y).predict_proba(x)
    for chosen in (["c"], "c", 2, [-1], [False, False, True], np.array([2])):
        model = MetaClassifier(categorical_features=chosen).fit(numbers, y)
        np.testing.assert_array_equal(model.predict_proba(numbers), want)
    assert not np.array_equal(MetaClassifier().fit(x, y).predict_proba(x), want)
    for chosen, said in (([3], "has 3: X has 3 columns"), ([True], "mask of 1"), (["z"], "'z'")):
        with pytest.raises(ValueError, match=said):
            MetaClassifier(categorical_features=chosen).fit(numbers, y)


def test_codes_of_any_size_are_names():
    x, y = table()
    model = MetaClassifier(categorical_features=[2]).fit(x, y)
    large = x * [1, 1, 1e15] + [0, 0, 1]
    same = MetaClassifier(categorical_features=[2]).fit(large, y)
    np.testing.assert_array_equal(same.predict_proba(large), model.predict_proba(x))
    unseen = same.predict_proba(large + [0, 0, 1]), model.predict_proba(x + [0, 0, 0.5])
    np.testing.assert_allclose(*unseen, atol=1e-12)


@pytest.mark.parametrize("output", ["default", "pandas", "polars"])
def test_settings_of_scikit_learn_change_nothing(output):
    x, y = table()
    model = MetaClassifier().fit(frame(x), y)
    want = model.predict_proba(frame(x))
    with sklearn.config_context(transform_output=output):
        np.testing.assert_array_equal(model.predict_proba(frame(x)), want)
        np.testing.assert_allclose(model.predict_proba(frame(x)[:1]), want[:1], atol=1e-12)
        np.testing.assert_array_equal(
            MetaClassifier().fit(frame(x), y).predict_proba(frame(x)), want
        )
        pipeline = make_pipeline(
            make_column_transformer(
                (OneHotEncoder(sparse_output=False), ["c"]), remainder="passthrough"
            ),
            MetaClassifier(),
        )
        assert pipeline.fit(frame(x), y).score(frame(x), y) > 0.85


def test_the_same_table_in_other_hands_says_the_same():
    x, y = table()
    pandas_frame = frame(x)
    want = MetaClassifier().fit(pandas_frame, y).predict_proba(pandas_frame)
    cells = {name: pandas_frame[name].tolist() for name in pandas_frame}
    for other in (
        polars.DataFrame(cells),
        pyarrow.table(cells),
        pyarrow.RecordBatch.from_pydict(cells),
        pandas_frame.to_numpy(),
        pandas_frame.to_numpy().tolist(),
        pandas_frame.astype("category").astype({"a": float, "b": float}),
        pandas_frame.convert_dtypes(dtype_backend="pyarrow"),
        pandas_frame.rename(columns={"a": 0, "b": 1, "c": 2}),
    ):
        model = MetaClassifier().fit(other, y)
        np.testing.assert_array_equal(model.predict_proba(other), want)


def test_a_sparse_matrix_is_its_array():
    x, y = table()
    want = MetaClassifier().fit(x, y).predict_proba(x)
    for kind in (sparse.csr_matrix, sparse.coo_array):
        model = MetaClassifier().fit(kind(x), y)
        np.testing.assert_array_equal(model.predict_proba(kind(x)), want)


def test_columns_of_a_frame_are_found_by_name():
    x, y = table()
    for make in (pandas.DataFrame, polars.DataFrame, pyarrow.table):
        whole = make(dict(frame(x)) if make is not pyarrow.table else frame(x))
        model = MetaClassifier().fit(whole, y)
        other = whole.select(["c", "a", "b"]) if make is not pandas.DataFrame else whole[[*"cab"]]
        np.testing.assert_array_equal(model.predict_proba(other), model.predict_proba(whole))
        fewer = whole.select(["c", "a"]) if make is not pandas.DataFrame else whole[[*"ca"]]
        with pytest.raises(
            ValueError, match=r"Feature names seen at fit time, yet now missing:\n- b"
        ):
            model.predict_proba(fewer)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_an_array_of_numbers_holds_the_places_of_names():
    x, y = table()
    model = MetaClassifier().fit(frame(x), y)
    places = np.c_[x[:, :2], np.array([2, 1, 0])[x[:, 2].astype(int)]]
    np.testing.assert_array_equal(model.predict_proba(places), model.predict_proba(frame(x)))


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_pools_of_joblib_come_back(backend):
    x, y = table(90)
    want = cross_val_score(MetaClassifier(), x, y, cv=3)
    with joblib.parallel_backend(backend, n_jobs=2):
        np.testing.assert_array_equal(cross_val_score(MetaClassifier(), x, y, cv=3), want)
        search = GridSearchCV(MetaClassifier(), {"n_nonzero": [1, 6, None]}, cv=2).fit(x, y)
    assert search.best_score_ > 0.8


def test_many_rows_are_predicted_in_pieces():
    x, y = table()
    for labels in (y, np.arange(60) % 6):
        model = MetaClassifier().fit(x, labels)
        many = np.tile(x, (100, 1))
        for predict in (model.predict_proba, model.decision_function):
            np.testing.assert_allclose(predict(many), np.tile(predict(x).T, 100).T, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-320, 1e-45, 1e-5, 1.0, 1e18, 1e38, 1e299])
def test_no_unit_and_no_origin_of_numbers_matters(scale):
    """Scaling by a power of two is exact; the rest rounds."""
    x, y = table()
    want = MetaClassifier().fit(x[:, :2], y).predict_proba(x[:, :2])
    other = x[:, :2] * scale
    got = MetaClassifier().fit(other, y).predict_proba(other)
    np.testing.assert_allclose(got, want, atol=2e-3 if scale > 1e-300 else 0.2)
    far = np.round(x[:, :2] * 2**10) / 2**10
    moved = far + 1.7e9
    near = MetaClassifier().fit(far, y).predict_proba(far)
    np.testing.assert_array_equal(MetaClassifier().fit(moved, y).predict_proba(moved), near)


@pytest.mark.parametrize(
    "labels",
    [
        [0, None, 1] * 20,
        [0.0, float("nan"), 1.0] * 20,
        np.array(["2020-01-01", "NaT", "2021-01-01"] * 20, "datetime64[D]"),
        pandas.Series(["a", pandas.NA, "b"] * 20, dtype="string"),
    ],
)
def test_rows_without_a_label_are_refused(labels):
    x, _ = table()
    with pytest.raises(ValueError, match=r"label|NaN"):
        MetaClassifier().fit(x, labels)
