"""Intents on frozen embeddings, at toy size: sets, baselines, refusals."""

import json

import jax
import numpy as np
import pytest

from experiments import intents
from experiments.text import baselines
from experiments.text.intents import PARTS, SPLITS, load, tasks_of


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
    return root


@pytest.mark.slow
def test_intents_writes_sets_that_hold_and_goes_on(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(intents, "SPLITS", 2)
    flags = ["--data-dir", str(folder), "--dataset", "banking77", "--ways", "3", "--shots", "2"]
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
    assert intents.main(["--data-dir", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "lacks" in capsys.readouterr().err
    monkeypatch.delenv("JAXMETA_DATA", raising=False)
    with pytest.raises(ValueError, match="--data-dir DIR"):
        load(None, "banking77")
