"""Intents on frozen embeddings, at toy size: sets, baselines, refusals."""

import json

import jax
import numpy as np
import pytest

from experiments import intents
from experiments.text import baselines, comparison, named, rivals, sets
from experiments.text.intents import PARTS, SPLITS, load, tasks_of
from jaxmeta.embeddings import FewShotClassifier
from jaxmeta.evaluation import calibration_error


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Thirty intents of eight sentences; the parts of a split have nine, nine and twelve."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    centres = rng.normal(size=(30, 6))
    label = np.repeat(np.arange(30), 8)
    x = centres[label] + 0.7 * rng.normal(size=(len(label), 6))
    arrays = {"embedding": x / np.linalg.norm(x, axis=1, keepdims=True), "label": label}
    for s in range(SPLITS):
        order = rng.permutation(30)
        for part, rows in zip(PARTS, np.split(order, [9, 18]), strict=True):
            arrays[f"split{s + 1}_{part}"] = rows
    arrays["name_embedding"] = centres
    (root / "intents").mkdir()
    for name in ("banking77", "clinc150"):
        np.savez(root / "intents" / f"{name}.npz", **arrays)
    strangers = rng.normal(size=(50, 6))
    np.savez(root / "intents" / "clinc150_out_of_scope.npz", embedding=strangers)
    return root


NAMES = ["--ways", "3", "--shots", "0", "2", "--queries", "3", "--eval-tasks", "60", "--json"]


@pytest.fixture
def past(monkeypatch):
    """`meta_fit` that learns nothing; what labels and names it was given, by call."""
    given = []

    def meta_fit(self, x, y, names, *, num_steps):
        given.append((set(np.unique(y).tolist()), set(names)))
        about = {"seed": self.random_state, "num_steps": num_steps, "classes": len(names)}
        self.theta_, self.about_ = self._theta(), about

    monkeypatch.setattr(FewShotClassifier, "meta_fit", meta_fit)
    monkeypatch.setattr(rivals, "STRENGTHS", (10.0, 100.0))
    monkeypatch.setattr(named, "_FOR_CHOICE", 2)
    return given


def test_intents_by_name_keeps_its_contract(folder, tmp_path, capsys, past):
    flags = ["--data-dir", str(folder), "--out", str(tmp_path), *NAMES]
    assert intents.main(flags) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads((tmp_path / "result.json").read_text())
    by = {(r["dataset"], r["ways"], r["shots"], r["learner"]): r for r in shown["results"]}
    assert len(by) == len(shown["results"]) == 2 * (3 + 5) + 2
    for row in by.values():
        assert row["num_tasks"] == 60 and row["classes"] >= 9
        for metric in comparison.METRICS:
            assert {metric, f"{metric}_ci95", f"{metric}_ci95_classes"} <= set(row)
        assert 0.2 < row["accuracy"] <= 1 and row["accuracy_ci95"] > 0 and 0 < row["auroc"] <= 1
        assert (row["log_loss"] is None) == (row["learner"] == "nearest centroid")
    ours = by["clinc150", 3, 2, "FewShotClassifier"]
    assert ours["bytes"] > 500 and ours["fit_ms"] > 0 and 0.7 < ours["coverage"] <= 1
    less = ours["less"]["LR + name"]["accuracy"]
    mean = ours["accuracy"] - by["clinc150", 3, 2, "LR + name"]["accuracy"]
    assert less["mean"] == pytest.approx(mean) and isinstance(less["tie"], bool)
    assert comparison.TUNED in by["banking77", 3, 2, "FewShotClassifier"]["less"]
    for picture in ("reliability.png", "accuracy.png"):
        assert (tmp_path / picture).stat().st_size > 1000


def test_theta_has_seen_no_intent_that_is_judged(folder, tmp_path, monkeypatch, past):
    seen, draw = [], rivals.draw

    def drawn(data, classes, *rest):
        tasks = draw(data, classes, *rest)
        seen.append((data.name, {c for task in tasks for c in task.held.tolist()}))
        return tasks

    monkeypatch.setattr(rivals, "draw", drawn)
    data = load(str(folder), "clinc150")
    flags = ["--data-dir", str(folder), "--out", str(tmp_path), "--dataset", "clinc150", *NAMES]
    assert intents.main([*flags, "--splits", "1", "--eval-tasks", "9"]) == 0
    (labels, names), *_ = past
    train, test = (set(data.splits[0][part].tolist()) for part in ("train", "test"))
    assert labels == names == train and not train & test
    assert all(held <= train or held <= test for _, held in seen)


def test_intents_by_name_goes_on_where_it_was(folder, tmp_path, capsys, past):
    flags = ["--data-dir", str(folder), "--out", str(tmp_path), "--dataset", "banking77", *NAMES]
    flags += ["--eval-tasks", "3"]
    assert intents.main(flags) == 0
    first, times = json.loads(capsys.readouterr().out), len(past)
    assert intents.main([*flags, "--resume"]) == 0
    assert json.loads(capsys.readouterr().out)["results"] == first["results"]
    assert len(past) == times == 1
    assert intents.main([*flags, "--resume", "--steps", "7"]) == 2
    assert "name another --out" in capsys.readouterr().err


def test_what_cannot_be_asked_of_intents_is_refused(folder, tmp_path, capsys):
    flags = ["--data-dir", str(folder), "--out", str(tmp_path), "--shipped"]
    for more, said in (
        (["--ways", "40"], "30 of 30 intents"),
        (["--queries", "9"], "0 of 30 intents"),
        (["--splits", "6"], "5 at most"),
        (["--level", "1"], "between 0 and 1"),
    ):
        assert intents.main([*flags, *more]) == 2
        assert said in capsys.readouterr().err


def test_calibration_error_is_a_mean_over_tasks():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), size=(40, 10))
    y = rng.integers(4, size=(40, 10))
    found = {"confidence": p.max(-1), "right": p.argmax(-1) == y, "accuracy": y.mean(1)}
    got = comparison._values(found, "calibration_error")
    assert got.shape == (40,)
    assert got.mean() == pytest.approx(calibration_error(p.reshape(-1, 4), y.ravel()))


def test_strangers_that_look_stranger_are_counted():
    assert comparison.auroc(np.array([0.1, 0.4, 0.3, 0.5]), 2) == pytest.approx(0.75)
    assert np.isnan(comparison.auroc(np.array([0.1, 0.4]), 2))


@pytest.mark.slow
def test_intents_writes_sets_that_hold_and_goes_on(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sets, "SPLITS", 2)
    flags = ["--what", "sets", "--data-dir", str(folder), "--dataset", "banking77"]
    flags += ["--ways", "3", "--shots", "2"]
    flags += ["--queries", "3", "--steps", "2", "--eval-tasks", "60", "--baseline-tasks", "20"]
    flags += ["--level", "0.8", "--out", str(tmp_path)]
    assert intents.main(flags) == 0
    rows = json.loads((tmp_path / "result.json").read_text())["results"]
    assert [row["learner"] for row in rows] == ["prototypes", "logistic regression"]
    for row in rows:
        assert row["splits"] == 2 == len(row["coverage_of_splits"])
        assert 0.3 < row["accuracy"] <= 1 and row["log_loss"] > 0
        assert row["ci95"] > 0 and 1 <= row["set_size"] + 1 <= 4
    assert 0.7 < rows[0]["coverage"] < 0.95 and rows[0]["ci95_classes"] > 0
    assert "held %" in capsys.readouterr().out
    assert (tmp_path / "reliability.png").stat().st_size > 1000
    assert intents.main([*flags, "--resume"]) == 0
    again = json.loads((tmp_path / "result.json").read_text())["results"]
    assert again == rows


def test_tasks_are_of_the_intents_of_a_part(folder):
    data = load(str(folder), "clinc150")
    classes = data.splits[2]["test"]
    sampler = tasks_of(data, classes, ways=4, shots=1, queries=2)
    key = jax.random.key(0)
    held = np.sort(classes)[np.asarray(sampler.classes(key))]
    np.testing.assert_allclose(sampler(key).description, data.name_embedding[held], rtol=1e-6)


def test_sets_by_mass_are_the_smallest_of_that_probability():
    p = np.array([[[0.5, 0.3, 0.2], [0.05, 0.05, 0.9]]])
    answers = baselines.Answers(p, np.zeros((1, 2), int))
    got = baselines.mass_sets(answers, 0.7)
    np.testing.assert_array_equal(got, [[[True, True, False], [False, False, True]]])


def test_what_is_no_data_set_is_refused(folder, tmp_path, monkeypatch, capsys):
    np.savez(tmp_path / "banking77.npz", embedding=np.zeros(3))
    flags = ["--data-dir", str(tmp_path), "--dataset", "banking77", "--past", "banking77"]
    assert intents.main([*flags, "--out", str(tmp_path)]) == 2
    assert "lacks" in capsys.readouterr().err
    monkeypatch.delenv("JAXMETA_DATA", raising=False)
    with pytest.raises(ValueError, match="--data-dir DIR"):
        load(None, "banking77")
