"""What experiments write: JSON without NaN, and tables and pictures of what there is."""

import json
import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import experiments.images.plots
import experiments.sinusoids.plots
import experiments.sparse.plots
from experiments import few_shot, sinusoid, throughput
from experiments.common import documents
from experiments.common.data_folder import data_folder
from experiments.tabular import summary
from experiments.tabular import tables as tabular_tables
from experiments.timing import tables as timing_tables
from jaxmeta import Examples


def test_documents_are_json_whatever_they_hold(tmp_path):
    nothing = [math.nan, math.inf, -math.inf, np.float32("nan"), np.float16("inf")]
    nothing += [jnp.float32(jnp.nan), np.array(np.nan)]
    document = {
        "none": nothing,
        "array": np.array([[1.0, np.nan], [np.inf, 2.0]]),
        "numbers": (1, True, np.int32(3), np.bool_(False), 0.5, jnp.arange(2)),
        "path": Path("a/b"),
        "dtype": np.dtype("float32"),
        7: None,
    }
    documents.write_json(tmp_path / "a.json", document)
    read = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert read == documents.read_json(tmp_path / "a.json")
    assert read.pop("none") == [None] * len(nothing)
    assert read.pop("array") == [[1.0, None], [None, 2.0]]
    assert read.pop("numbers") == [1, True, 3, False, 0.5, [0, 1]]
    assert read == {"path": "a/b", "dtype": "float32", "7": None}
    np.testing.assert_array_equal(documents.numbers([1, None]), [1.0, np.nan])
    (tmp_path / "b.json").write_text("NaN, or what?")
    with pytest.raises(ValueError, match=r"b\.json is no JSON"):
        documents.read_json(tmp_path / "b.json")


def test_a_record_that_was_cut_off_costs_no_other(tmp_path):
    path = tmp_path / "a.jsonl"
    documents.append_json(path, {"a": 1})
    with path.open("a") as file:
        file.write('{"a": 2, "b')
    documents.append_json(path, {"a": math.inf})
    assert list(documents.read_records(path)) == [{"a": 1}, {"a": None}]


def test_tables_show_no_number_that_there_is_not():
    assert documents.plus_minus(0.5, 0.01) == "50.00 ± 1.00"
    assert documents.plus_minus(0.5, math.inf) == "50.00 ± -"
    assert documents.plus_minus(math.nan, math.nan, scale=1.0, digits=4) == "- ± -"
    row = {"learner": "maml", "error": [None, None], "ci95": [None, None], "seconds": 1}
    assert "nan" not in sinusoid.table([row])
    both = [row | {"error": [None] * 9}, row | {"learner": "transfer", "error": [1.0] * 9}]
    assert "diverges" in sinusoid.verdict(both)


def test_pictures_leave_gaps_where_files_have_null(tmp_path):
    record = {"learner": "a", "step": 1, "loss": 1.0, "accuracy": 0.5}
    records = [record, record | {"step": 2, "loss": None, "accuracy": None}]
    experiments.images.plots.learning_curves(records, tmp_path / "a.png")
    point = {"learner": "a", "density": 0.5, "multiply_adds": 3, "accuracy": 0.5, "ci95": None}
    rows = {"learners": [point], "mechanisms": [point]}
    bound = {"learner": "a", "share": 0.5, "bound": None, "true_error": 0.1}
    experiments.sparse.plots.sparsity_paths(rows, [bound], tmp_path / "b.png", title="")
    gap = {"learner": "a", "classes": 30, "trained": 1.0, "new": None, "gap": None}
    gap |= {f"{each}_ci95_classes": None for each in ("trained", "new", "gap")}
    experiments.images.plots.generalisation([gap], tmp_path / "d.png", ways=5)
    error = {"learner": "a", "error": [None, 1.0], "ci95": [None, None], "num_tasks": 1}
    level = {"learner": "b", "error": [None], "ci95": [None], "num_tasks": 1}
    x = np.zeros((2, 1))
    support = Examples(x, x, np.ones(2))
    experiments.sinusoids.plots.regression(
        [error, level], x, {"true": x}, support, tmp_path / "c.png", 1
    )
    assert all((tmp_path / f"{name}.png").stat().st_size > 1000 for name in "abc")


def test_comparisons_pass_over_null(tmp_path, capsys):
    row = {"case": "a", "meta_batch": 1, "inner_steps": 0, "share_of_peak": 0.5}
    assert timing_tables.regressions([row], [row | {"share_of_peak": None}]) == []
    assert timing_tables.regressions([row | {"share_of_peak": math.nan}], [row]) == []
    (tmp_path / "a.json").write_text("[]")
    arguments = ["--out", str(tmp_path), "--baseline", str(tmp_path / "a.json")]
    assert throughput.main(arguments) == 2
    assert "no rows" in capsys.readouterr().err
    measures = dict.fromkeys(summary.MEASURES, 0.5)
    record = {"method": "a", "set": "s", "rows": 9, "split": 0, "classes": 2} | measures
    table = summary.by_set([record, record | {"method": "b", "log_loss": None}], 9)
    assert summary.ranks(table, "log_loss") == {"a": 1.0, "b": 2.0}
    assert summary.as_text(table, "a").splitlines()[2].startswith("b")
    judged = tabular_tables.judge(np.full((2, 2), np.nan), np.array([0, 1]))
    assert np.isnan(list(judged.values())).all(), "what is NaN is no class"


def test_the_interval_of_one_task_is_null(tmp_path, capsys):
    flags = ["--learner", "nearest_neighbour", "--eval-tasks", "1", "--out", str(tmp_path)]
    flags += ["--no-guard"]
    assert few_shot.main([*flags, "--json"]) == 0
    written = (tmp_path / "result.json").read_text()
    for text in (written, capsys.readouterr().out):
        (row,) = json.loads(text, parse_constant=pytest.fail)["results"]
        assert row["ci95"] is None and row["to_best"]["ci95"] is None
    assert few_shot.main(flags) == 0
    assert "± -" in capsys.readouterr().out


def test_a_folder_of_data_is_given_itself_or_its_parent(tmp_path, monkeypatch):
    monkeypatch.delenv("JAXMETA_DATA", raising=False)
    with pytest.raises(ValueError, match=r"--data-dir DIR or set JAXMETA_DATA; a\.npz lie in it"):
        data_folder(None, "tables", "a.npz")
    assert data_folder(str(tmp_path), "tables", "a.npz") == tmp_path
    (tmp_path / "tables").mkdir()
    assert data_folder(str(tmp_path), "tables", "a.npz") == tmp_path / "tables"
    monkeypatch.setenv("JAXMETA_DATA", str(tmp_path))
    assert data_folder(None, "tables", "a.npz") == tmp_path / "tables"
