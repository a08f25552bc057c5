"""Experiment scripts end to end, at toy size: what they write, how they go on."""

import json

import numpy as np
import pytest

from experiments import meta_gradients, scaling, sinusoid, sparsity_path, two_tasks
from jaxmeta import export


def test_two_tasks_writes_its_results(tmp_path):
    flags = ["--learner", "nearest_neighbour", "hypernet", "--steps", "2", "--eval-tasks", "4"]
    assert two_tasks.main([*flags, "--out", str(tmp_path / "a")]) == 0
    rows = json.loads((tmp_path / "a" / "result.json").read_text())["results"]
    assert {row["labels"] for row in rows} == {"rule", "random"} and len(rows) == 4


@pytest.mark.slow
def test_sparsity_path_writes_all_its_files_and_goes_on(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2, 6, 1, 40)) + 0.1 * rng.normal(size=(2, 6, 4, 40))
    pools = tuple(vectors.astype(np.float32))
    monkeypatch.setattr(sparsity_path, "embedded", lambda *_, **__: pools)
    flags = ["--steps", "2", "--ways", "3", "--eval-tasks", "4", "--share", "1", "0.2"]
    flags += ["--certify-rows", "30", "--certify-tasks", "2"]
    flags += ["--learner", "maml", "--mechanism", "whole inputs, closing"]
    flags += ["--density", "0.2", "--timing", "0.01", "--out", str(tmp_path)]
    assert sparsity_path.main(flags) == 0
    document = json.loads((tmp_path / "result.json").read_text())
    rows, shipped = document["results"], document["shipped"]
    assert [row["share"] for row in rows["learners"]] == [1.0, 0.2]
    assert rows["learners"][1]["density"] < rows["learners"][0]["density"] <= 1.0
    assert rows["mechanisms"][0]["density"] < 0.23  # biases are not inputs
    assert shipped["ways"] == 6 and shipped["exported"]["difference"] < 1e-4
    assert shipped["exported"]["num_bytes"] < shipped["dense"]["num_bytes"]
    predict = export.load((tmp_path / "learner.py").read_text())
    assert predict(pools[1][:, 0]).shape == (6, 6)
    for name in ("learner.stablehlo", "sparsity_path.png", "maml.state"):
        assert (tmp_path / name).stat().st_size > 1000
    # The second call finds everything trained.
    flags += ["--resume", "--learner", "maml", "--mechanism"]
    assert sparsity_path.main(flags) == 0
    again = json.loads((tmp_path / "result.json").read_text())["results"]
    assert again["learners"] == rows["learners"] and not again["mechanisms"]
    assert sparsity_path.main([*flags, "--steps", "3"]) == 2
    assert "steps" in capsys.readouterr().err


def test_meta_gradients_measures_every_mode_asked_for_and_full(tmp_path):
    flags = ["--steps", "2", "--mode", "remat", "--tasks", "2", "--rounds", "1"]
    assert meta_gradients.main([*flags, "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "result.json").read_text())["results"]
    assert [row["mode"] for row in rows] == ["full", "remat"]
    for row in rows:
        assert row["seconds"] >= row["least_seconds"] > 0 and row["temp_bytes"] > 0
        np.testing.assert_allclose(row["cosine"], 1.0, atol=1e-4)
    assert (tmp_path / "meta_gradients.png").stat().st_size > 1000


def test_scaling_measures_and_models(tmp_path, capsys):
    flags = ["--case", "sinusoid_maml", "--devices", "1", "--tasks", "2", "--seconds", "0"]
    assert scaling.main([*flags, "--out", str(tmp_path)]) == 0
    document = json.loads((tmp_path / "result.json").read_text())
    assert [row["scaling"] for row in document["rows"]] == ["weak", "strong"]
    assert all(row["efficiency"] == 1.0 and row["ms"] > 0 for row in document["rows"])
    # Of a 1-40-40-1 perceptron: 2 * 7/8 of its bytes at 50 GB/s, and 14 messages of 5 us.
    first = document["model"][0]
    assert first["gradient_bytes"] == 4 * (2 * 40 + 41 * 40 + 41)
    np.testing.assert_allclose(first["communication_us"], 7044 * 1.75 / 5e4 + 70)
    assert (tmp_path / "scaling.png").stat().st_size > 1000


@pytest.mark.slow
def test_sinusoid_writes_curves_and_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sinusoid, "MOST_STEPS", 6)
    flags = ["--learner", "transfer", "ridge", "--steps", "2", "--eval-tasks", "4"]
    assert sinusoid.main([*flags, "--out", str(tmp_path)]) == 0
    first = json.loads((tmp_path / "result.json").read_text())["results"]
    assert [len(row["error"]) for row in first] == [7, 1]
    for row in first:
        assert row["num_tasks"] == 4 and len(row["ci95"]) == len(row["error"])
    assert set(first[0]["rates"]) <= set(sinusoid.TEST_RATES) and len(first[0]["rates"]) == 7
    assert "maml after" in sinusoid.verdict([first[0], {**first[0], "learner": "maml"}]).lower()
    assert (tmp_path / "sinusoid.png").stat().st_size > 1000
    # The second call finds everything trained, and judges it on the same tasks.
    flags[1:3] = ["ridge"]
    assert sinusoid.main([*flags, "--resume", "--out", str(tmp_path)]) == 0
    again = json.loads((tmp_path / "result.json").read_text())["results"]
    assert again[0]["error"] == first[1]["error"]
    flags[flags.index("--steps") + 1] = "3"
    assert sinusoid.main([*flags, "--resume", "--out", str(tmp_path)]) == 2
    assert "steps" in capsys.readouterr().err
