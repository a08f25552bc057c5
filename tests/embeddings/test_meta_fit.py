"""`meta_fit`: what is learned from past classes serves new ones."""

import numpy as np
import pytest

from jaxmeta.embeddings import FewShotClassifier, _meta_fit
from jaxmeta.embeddings._past import names_to_rows
from jaxmeta.evaluation import calibration_error
from tests.embeddings.features import classes, task

SHARED = {"spread": 1.5, "size": 16}


@pytest.fixture(scope="module")
def learned():
    past = classes(60, rows=40, seed=1, **SHARED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_meta_fit, "_WAYS", (6,))  # one program to compile, not two
        return FewShotClassifier().meta_fit(*past, num_steps=80, noise=0.0)


def new_tasks(num, shots=2, **options):
    for seed in range(num):
        yield task(ways=6, shots=shots, rows=12, seed=100 + seed, **SHARED | options)


def test_new_classes_are_told_apart_by_honest_probabilities(learned):
    p, right, held = [], [], []
    for x, y, names, queries, labels in new_tasks(60):
        model = learned.fit(x, y, names)
        codes = np.searchsorted(model.classes_, labels)
        p.append(model.predict_proba(queries))
        right.append(codes)
        held.append(model.predict_set(queries)[np.arange(len(codes)), codes])
    p, right = np.concatenate(p), np.concatenate(right)
    assert (p.argmax(axis=1) == right).mean() > 0.7
    assert calibration_error(p, right) < 0.06
    assert np.concatenate(held).mean() > 0.88


def test_theta_comes_back_from_its_file(learned, tmp_path):
    x, y, names, queries, _ = task(seed=7, **SHARED)
    want = learned.fit(x, y, names)
    learned.save_theta(tmp_path / "theta.ckpt")
    again = FewShotClassifier().load_theta(tmp_path / "theta.ckpt").fit(x, y, names)
    np.testing.assert_allclose(again.predict_proba(queries), want.predict_proba(queries), atol=1e-6)
    assert again.outlier_threshold_ == pytest.approx(want.outlier_threshold_, abs=1e-5)
    assert again.about_ == {"classes": 60, "rows": 2400, "features": 16} | {
        "named": 60,
        "seed": 0,
        "num_steps": 80,
        "noise": 0.0,
    }


def test_a_file_of_something_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no checkpoint"):
        FewShotClassifier().load_theta(tmp_path / "nothing")


def test_names_of_another_space_are_led_to_the_rows():
    rng = np.random.default_rng(0)
    turn = rng.normal(size=(16, 9))
    means = rng.normal(size=(60, 16))
    named = {c: mean @ turn + 0.1 * rng.normal(size=9) for c, mean in enumerate(means)}
    table = names_to_rows({c: named[c] for c in range(40)}, means[:40])
    got = np.stack([named[c] @ table[:-1] + table[-1] for c in range(40, 60)])
    cosine = (got * means[40:]).sum(1) / np.linalg.norm(got, axis=1)
    assert (cosine / np.linalg.norm(means[40:], axis=1)).mean() > 0.5
    assert names_to_rows(dict(enumerate(means + 0.5 * means[::-1])), means) is None


def test_a_few_past_classes_without_names_will_do():
    x, y, _ = classes(5, rows=4, size=2, seed=3)
    model = FewShotClassifier().meta_fit(x, y, num_steps=2)
    x, y, _, queries, _ = task(size=2)
    assert np.isfinite(model.fit(x, y).predict_proba(queries)).all()
    # Five classes are too few to vouch for a level of 0.9: nothing is excluded.
    assert model.predict_set(queries).all()


def test_too_few_past_classes_are_refused():
    x, y, names = classes(3)
    with pytest.raises(ValueError, match="4 classes or more of two rows"):
        FewShotClassifier().meta_fit(x, y, names)
    with pytest.raises(ValueError, match="num_steps of 1 or more"):
        FewShotClassifier().meta_fit(*classes(5), num_steps=0)
    with pytest.raises(ValueError, match="noise of zero to ten"):
        FewShotClassifier().meta_fit(*classes(5), noise=-1.0)
