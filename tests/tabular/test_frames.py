"""Random frames of all dtypes: fit, predict, explain, export and pickle agree, or all refuse."""

import faulthandler
import importlib.util
import pickle
import warnings

import numpy as np
import pytest

from jaxmeta.tabular import MetaClassifier
from tests.tabular.tables import draw_table

ROWS, NEW = 24, 8


@pytest.fixture(autouse=True)
def watchdog():
    """A fit that hangs ends the tests, with a traceback of every thread."""
    faulthandler.dump_traceback_later(600, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def module_of(path):
    spec = importlib.util.spec_from_file_location("exported", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(seed, path):
    """One random table."""
    refused = seed % 5 == 0
    table = draw_table(seed, ROWS + NEW, refused)
    labels = np.random.default_rng(seed).integers(0, 2 + seed % 2, ROWS)
    labels[:3] = 0, 1, 1 + seed % 2
    train = table.frame(range(ROWS))
    if refused:
        name = f"x{len(table.cells) - 1}" if table.library == "lists" else [*table.cells][-1]
        with pytest.raises((TypeError, ValueError), match=name):
            MetaClassifier().fit(train, labels)
        return
    model = MetaClassifier(None if seed % 3 else 6).fit(train, labels)
    for rows in (range(ROWS), range(ROWS, ROWS + NEW), [ROWS]):
        frame = table.frame(rows)
        p = model.predict_proba(frame)
        assert p.shape == (len(rows), len(model.classes_)) and np.isfinite(p).all()
        np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-9)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(frame), p)
        model.export(path)
        np.testing.assert_allclose(module_of(path).predict_proba(frame), p, atol=1e-12)
    text = model.explain()
    terms = sum(int(w.kernel.any(axis=1).sum()) for w in model.emitted_)
    assert len(text.splitlines()) == 2 + terms and text.isascii() is text.isascii()
    again = MetaClassifier(None if seed % 3 else 6).fit(
        table.frame(range(ROWS)[::-1]), labels[::-1]
    )
    backwards = table.frame(range(ROWS))
    np.testing.assert_array_equal(again.predict_proba(backwards), model.predict_proba(backwards))


def check_all(seeds, path):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* is read as", UserWarning)
        for seed in seeds:
            try:
                check(seed, path)
            except BaseException as error:
                error.add_note(f"seed {seed}: {draw_table(seed, 2, seed % 5 == 0)}")
                raise


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_random_frames_are_read_or_refused_by_column(first, tmp_path):
    check_all(range(first, first + 20), tmp_path / "model.py")


@pytest.mark.slow
@pytest.mark.parametrize("first", range(60, 1000, 94))
def test_a_thousand_random_frames_are(first, tmp_path):
    check_all(range(first, first + 94), tmp_path / "model.py")
