"""`MetaClassifier`: scikit-learn's own checks, what users bring, and what it hands back."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest

from jaxmeta import checkpoint
from jaxmeta.tabular import MetaClassifier, _arrays
from jaxmeta.tabular.estimator._input import is_plain
from jaxmeta.tabular.estimator._model import scores, standardise
from jaxmeta.tabular.estimator._reduction import choose_columns, choose_rows
from jaxmeta.tabular.meta_net import FEATURES, tabular, write_programs


def table(rows=80, columns=4, ways=2, seed=0):
    """Numbers, one of them skewed, a column of codes last, values missing; a rule with bumps."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns))
    x[:, 1] = np.exp(x[:, 1])
    x[:, -1] = rng.integers(0, 4, rows)
    score = x[:, 0] - 2.0 * (x[:, -1] == 2) + 0.3 * np.log(x[:, 1])
    y = np.digitize(score, np.quantile(score, np.arange(1, ways) / ways))
    x[rng.random(rows) < 0.1, 1] = np.nan
    return x, y


def frame(x):
    """The same with names for codes."""
    names = np.asarray(["red", "green", "blue", "black"], object)
    columns = {f"number {c}": x[:, c] for c in range(x.shape[1] - 1)}
    return pandas.DataFrame(columns | {"colour": names[x[:, -1].astype(int)]})


def fitted(n_nonzero=None, **sizes):
    x, y = table(**sizes)
    model = MetaClassifier(n_nonzero, categorical_features=[x.shape[1] - 1]).fit(x[:60], y[:60])
    return model, x, y


@pytest.mark.parametrize("ways", [2, 3, 7])
def test_it_learns_and_says_probabilities(ways):
    model, x, y = fitted(rows=160, ways=ways)
    p = model.predict_proba(x[60:])
    assert p.shape == (100, ways) and (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-9)
    commonest = (y[60:] == np.bincount(y[:60]).argmax()).mean()
    assert (model.predict(x[60:]) == y[60:]).mean() > commonest + 0.15
    assert len(model.models_) == (1 if ways <= 5 else ways)


@pytest.mark.parametrize(("n_nonzero", "ways"), [(None, 3), (6, 3), (6, 2)])
def test_numpy_says_what_the_learner_says(n_nonzero, ways):
    model, x, _ = fitted(n_nonzero, ways=ways)
    w = jax.tree.map(jnp.asarray, model.emitted_[0])
    rows = np.zeros((len(x), 2, _arrays.MOST_COLUMNS), np.float32)
    u = standardise(x, *model.models_[0][1:3])
    rows[:, 0, :4], rows[:, 1, :4] = np.nan_to_num(u), ~np.isnan(u)
    expected = tabular().predict(None, w, jnp.asarray(rows))[:, :ways]
    np.testing.assert_allclose(scores(model.models_[0], x), expected, atol=2e-4)
    if n_nonzero is not None:
        assert (model.emitted_[0].kernel != 0).any(axis=1).sum() == n_nonzero


def test_plain_arrays_are_read_without_checks_and_say_the_same():
    model, x, _ = fitted(12)
    expected = model.predict_proba(x.tolist())
    np.testing.assert_array_equal(model.predict_proba(x), expected)
    np.testing.assert_allclose(model.predict_proba(x.astype(np.float32)), expected, atol=1e-6)
    assert is_plain(x, model._plain_width) and is_plain(x.astype(np.float32), model._plain_width)
    np.testing.assert_array_equal(model.predict_proba(np.asfortranarray(x[::2])), expected[::2])
    for odd in (np.inf, -1e301):
        with pytest.raises(ValueError, match="x0 has infinity or a value too large"):
            model.predict_proba(np.where(x == x[0, 0], odd, x))
    with pytest.raises(ValueError, match="expecting 4 features"):
        model.predict_proba(x[:, :3])


def test_names_do_as_codes_and_unseen_names_are_no_level():
    x, y = table()
    by_code = MetaClassifier(categorical_features=[3]).fit(x, y)
    text, labels = frame(x), np.where(y == 1, "yes", "no")
    by_name = MetaClassifier().fit(text, labels)
    np.testing.assert_allclose(by_name.predict_proba(text), by_code.predict_proba(x), atol=1e-3)
    assert set(by_name.predict(text)) == {"no", "yes"}
    text.loc[0, "colour"] = "purple"
    text.loc[1, "colour"] = None
    assert np.isfinite(by_name.predict_proba(text)).all()


def test_larger_tables_are_sampled_and_that_is_said():
    x, y = table(rows=600, columns=25)
    with pytest.warns(UserWarning, match="256 of 600 rows and 20 of 25 columns"):
        model = MetaClassifier(categorical_features=[24]).fit(x, y)
    assert {0, 24} <= set(model.columns_)
    assert (model.predict(x) == y).mean() > 0.8


def test_a_sample_of_rows_keeps_the_classes_in_proportion():
    y = np.repeat([0, 1, 2], [900, 99, 1])
    rows = choose_rows(y, seed=0)
    assert len(np.unique(rows)) == len(rows) == _arrays.MOST_ROWS
    counts = np.bincount(y[rows])
    assert counts[2] == 1 and abs(counts[1] - 25) <= 1


def test_the_columns_that_tell_most_are_read():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 30)).astype(np.float32), rng.integers(0, 2, 200)
    x[:, 7] += y
    x[:, 29] = np.where(rng.random(200) < 0.8, y, 2)
    chosen = choose_columns(x, y, np.arange(30) == 29)
    assert len(chosen) == _arrays.MOST_COLUMNS and {7, 29} <= set(chosen)


def test_mistakes_are_refused_with_a_sentence():
    x, y = table()
    with pytest.raises(ValueError, match="two classes or more"):
        MetaClassifier().fit(x, np.zeros_like(y))
    with pytest.raises(ValueError, match="'n_nonzero' parameter of MetaClassifier must be an int"):
        MetaClassifier(0).fit(x, y)


def test_weights_of_other_features_are_refused(tmp_path):
    file = tmp_path / "tabular.ckpt"
    checkpoint.save(file, {}, {"features": FEATURES + 1})
    with pytest.raises(ValueError, match="version 2 of the features of a table"):
        write_programs(tmp_path / "tabular.npz", file)
