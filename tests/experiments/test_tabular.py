"""The tabular experiments: splits, judgements and summaries; a short pre-training that goes on."""

import json

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from experiments import tabular_first_answer, tabular_pretrain
from experiments.common.training_loop import read_metrics
from experiments.tabular import summary
from experiments.tabular.tables import Table, as_task, draw_split, judge, load_tables


def table(rows=400, columns=30):
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [rows - 60, 50, 10])
    x = rng.normal(size=(rows, columns)) + y[:, None]
    return Table("some", x, y, np.arange(columns) < 3)


def test_splits_are_stratified_disjoint_and_the_same_for_all():
    whole = table()
    support, test = draw_split(whole, rows=100, seed=1)
    np.testing.assert_array_equal(np.bincount(support.y), [85, 13, 2])
    assert support.x.shape == (100, 20) and test.x.shape == (300, 20)
    assert not set(support.x[:, 0]) & set(test.x[:, 0])
    again = draw_split(whole, rows=100, seed=1)
    np.testing.assert_array_equal(again.support.x, support.x)
    other = draw_split(whole, rows=100, seed=2)
    assert not np.array_equal(other.support.x, support.x)
    assert draw_split(whole, rows=360, seed=0) is None


def test_judgements_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200)
    p = rng.dirichlet(np.ones(3), 200)
    p[:50] = p[50:100]  # ties
    found = judge(p, y)
    assert found["log_loss"] == pytest.approx(log_loss(y, p), abs=1e-6)
    assert found["auc"] == pytest.approx(roc_auc_score(y, p, multi_class="ovr"), abs=1e-6)
    assert found["accuracy"] == pytest.approx((p.argmax(axis=1) == y).mean())
    sure = np.full((100, 2), [0.8, 0.2])
    right = judge(sure, np.repeat([0, 1], [70, 30]))
    assert right["calibration"] == pytest.approx(0.1, abs=1e-6)


def write_tables(folder, rows=20):
    rng = np.random.default_rng(0)
    arrays = {"names": np.asarray(["a", "b", "c"])}
    for name, ways in (("a", 2), ("b", 2), ("c", 7)):
        arrays[f"{name}/X"] = rng.normal(size=(rows, 2)).astype(np.float32)
        arrays[f"{name}/y"] = np.arange(rows) % ways
        arrays[f"{name}/cat"] = np.zeros(2, bool)
    np.savez(folder / "tabular_dev.npz", **arrays)
    families = {"a": {"family": "f"}, "b": {"family": "f"}, "c": {"family": "g"}}
    (folder / "tabular_dev.json").write_text(json.dumps(families))


def test_tables_are_read_one_a_family(tmp_path):
    write_tables(tmp_path)
    assert [each.name for each in load_tables(str(tmp_path))] == ["a"]
    with pytest.raises(ValueError, match="There is no other.npz"):
        load_tables(str(tmp_path), "other.npz")


def test_a_split_is_a_task_of_the_meta_net():
    whole = table()
    whole.x[:7, 4] = np.nan
    split = draw_split(whole, rows=100, seed=1)
    task = as_task(split, rows=120, num_terms=12)
    for examples, part in zip((task.support, task.query), split, strict=True):
        number = len(part.y)
        np.testing.assert_array_equal(examples.mask, np.arange(len(examples.y)) < number)
        np.testing.assert_array_equal(examples.y[:number], part.y)
        assert (examples.y[number:] == -1).all() and not examples.x[number:].any()
        known = ~np.isnan(part.x)
        np.testing.assert_array_equal(examples.x[:number, 1] > 0, known)
        np.testing.assert_allclose(examples.x[:number, 0][known], part.x[known], rtol=1e-6)
    np.testing.assert_array_equal(task.description.categorical > 0, split.support.categorical)
    assert task.description.num_terms == 12
    with pytest.raises(ValueError, match="pads to 20 x 20"):
        as_task(split, rows=20)


def test_first_answers_are_measured_once(tmp_path, capsys, monkeypatch):
    counted = []

    def measure(method, seed, byte_code):
        counted.append(method)
        return {"imports": 1.0, "first_fit": 0.1, "second_fit": 0.1, "whole": 2.0, "peak_mb": 9.0}

    def records_of(method, rounds):
        arguments = ["--methods", method, "--rounds", rounds, "--out", str(tmp_path)]
        assert tabular_first_answer.main(arguments) == 0
        return json.loads((tmp_path / "result.json").read_text())["results"]

    fresh, warm = records_of("MetaClassifier", "1")
    assert (fresh["state"], warm["state"]) == ("fresh", "warm")
    assert 0 < warm["imports"] < warm["whole"] and 20 < warm["peak_mb"] < 1000
    monkeypatch.setattr(tabular_first_answer, "measure", measure)
    again = [records_of("LogisticRegressionCV", "2") for _ in range(2)]
    assert again[0] == again[1] and len(again[0]) == 4
    assert counted == ["LogisticRegressionCV"] * 4
    assert "1.00" in capsys.readouterr().out


def records():
    rng = np.random.default_rng(0)
    for name in range(20):
        for split in range(2):
            loss = rng.uniform(0.3, 0.6)
            for method, more in (("meta-net", 0.0), ("other", 0.02 + 0.001 * name)):
                yield {
                    "method": method,
                    "set": str(name),
                    "rows": 100,
                    "split": split,
                    "classes": 2 + name % 2,
                } | dict.fromkeys(summary.MEASURES, loss + more)


def test_a_summary_averages_splits_and_pairs_data_sets(tmp_path):
    rows = list(records())
    found = summary.by_set([*rows, {**rows[0], "split": 9}], 100)
    gap = found["other"]["log_loss"] - found["meta-net"]["log_loss"]
    np.testing.assert_allclose(
        gap, 0.02 + 0.001 * np.arange(20)[np.argsort([str(i) for i in range(20)])]
    )
    low, high = summary.interval(gap)
    assert 0.02 < low < gap.mean() < high < 0.04
    assert summary.ranks(found, "log_loss") == {"meta-net": 1.0, "other": 2.0}
    sentence = summary.cost_of_few_terms(rows, 100, "meta-net", "other")
    assert "10 sets of two classes: +0.0290 [" in sentence
    assert summary.cost_of_few_terms(rows, 100, "meta-net", "not measured") == ""
    text = summary.as_text(found, "meta-net")
    assert f"{-gap.mean():+.4f}" in text and "100" in text.splitlines()[2]
    summary.draw(found, 100, tmp_path)
    assert len(list(tmp_path.glob("*.png"))) == 2


@pytest.mark.slow
def test_pre_training_goes_on_where_it_stopped(tmp_path):
    write_tables(tmp_path, rows=80)
    flags = ["--tasks-per-step", "2", "--chunk", "1", "--scan", "2", "--rows", "20"]
    flags += ["--eval-tasks", "4", "--out", str(tmp_path), "--data-dir", str(tmp_path)]
    assert tabular_pretrain.main([*flags, "--steps", "4"]) == 0
    assert tabular_pretrain.main([*flags, "--steps", "6", "--resume"]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert np.isfinite(result["log_loss"]) and result["num_tasks"] == 4
    assert result["tables"]["num_sets"] == 1 and np.isfinite(result["tables"]["few_terms"])
    steps = [record["step"] for record in read_metrics(tmp_path)]
    assert steps == [2, 4, 6]
