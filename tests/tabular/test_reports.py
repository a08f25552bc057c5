"""What an emitted model says of itself: the text, the picture, and the file that needs NumPy."""

import enum
import importlib.util
import subprocess
import sys

import numpy as np
import pandas
import polars
import pytest

from jaxmeta.tabular import MetaClassifier


class Size(enum.StrEnum):
    SMALL = "s"
    LARGE = "l"


def table(rows=80, ways=2):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 4))
    x[:, 3] = rng.integers(0, 4, rows)
    x[rng.random(rows) < 0.1, 1] = np.nan
    score = x[:, 0] - 2.0 * (x[:, 3] == 2)
    return x, np.digitize(score, np.quantile(score, np.arange(1, ways) / ways))


def frame(
    x, names=("red", "green", "blue", "black"), columns=("income", "age", "height", "colour")
):
    text = np.array(names, object)[x[:, 3].astype(int)]
    return pandas.DataFrame(dict(zip(columns, (*x[:, :3].T, text), strict=True)))


def exported(model, path):
    model.export(path)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_explain_names_every_live_term_on_one_screen(tmp_path):
    x, y = table()
    model = MetaClassifier(12).fit(frame(x), np.where(y == 1, "yes", "no"))
    lines = model.explain(plot=tmp_path / "terms.png").splitlines()
    assert len(lines) == 2 + 12 and max(map(len, lines)) <= 80
    assert "yes" in lines[0] and "no" in lines[0]
    assert any("income" in line for line in lines)
    assert any("colour is blue" in line for line in lines)
    assert (tmp_path / "terms.png").stat().st_size > 1000


def test_names_of_any_length_and_letters_stay_apart_on_a_line(tmp_path):
    x, y = table()
    columns = ["a\nbreak", "$x_1$", "z" * 99 + "1", "z" * 99 + "2"]
    names = ["l" * 60 + "1", "l" * 60 + "2", "tab\t", "$\\alpha$"]
    labels = np.array(["c" * 30 + "1", "c" * 30 + "2"])[y]
    model = MetaClassifier().fit(frame(x, names, columns), labels)
    lines = model.explain(plot=tmp_path / "terms.png").splitlines()
    terms = int(model.emitted_[0].kernel.any(axis=1).sum())
    assert len(lines) == 2 + terms == len({line.split("  ")[0] for line in lines})
    assert max(map(len, lines)) <= 90 and all(line.isprintable() for line in lines)


def test_numbers_of_terms_are_in_the_units_of_their_column():
    x, y = table()
    made = frame(x)[["income"]]
    large = made.assign(income=1e9 + made.income, when=pandas.Timestamp("2024-01-01"))
    large["when"] += pandas.to_timedelta(x[:, 2].round(2), unit="D")
    large["grade"] = pandas.Categorical.from_codes(x[:, 3].astype(int), list("DCBA"), ordered=True)
    text = MetaClassifier().fit(large, y).explain()
    hinges = {
        name: line.split()[2]
        for line in text.splitlines()
        for name in made
        if f"{name} above" in line
    }
    assert abs(float(hinges["income"]) - 1e9) < 3
    assert "when above 2024-01-" in text or "when above 2023-12-" in text
    assert any(f"grade above {level}" in text for level in "DCBA")


def test_levels_are_what_they_were_before_they_were_codes():
    x, y = table()
    flags = pandas.Series(x[:, 3] == 2).astype("category")
    text = MetaClassifier().fit(pandas.DataFrame({"flag": flags, "a": x[:, 0]}), y).explain()
    assert "flag is True" in text and "1.0" not in text.replace("-1.0", "")[:60]
    text = MetaClassifier(categorical_features=[3]).fit(x, y).explain()
    assert "x3 is 2" in text


def test_each_of_many_classes_has_a_page_and_a_panel(tmp_path):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    x, y = table(200, ways=7)
    labels = np.array([f"class {c}" for c in range(7)])[y]
    model = MetaClassifier(4).fit(x, labels)
    pages = model.explain(plot=tmp_path / "terms.png").split("\n\n")
    assert [page.splitlines()[0].split("rest")[1].split("  ")[-1].strip() for page in pages] == [
        f"class {c}" for c in range(7)
    ]
    few = MetaClassifier(4).fit(x[:, :3], y > 3).explain(plot=tmp_path / "few.png")
    assert len(few.splitlines()) == 6
    heights = [pyplot.imread(tmp_path / name).shape[0] for name in ("terms.png", "few.png")]
    assert heights[0] == pytest.approx(7 * heights[1], rel=0.05)


@pytest.mark.parametrize("ways", [2, 4, 7])
def test_the_exported_file_predicts_as_the_model(tmp_path, ways):
    x, y = table(120, ways=ways)
    for rows, codes in ((x, [3]), (frame(x), None)):
        model = MetaClassifier(8, categorical_features=codes).fit(rows, y)
        module = exported(model, tmp_path / "model.py")
        np.testing.assert_allclose(
            module.predict_proba(rows), model.predict_proba(rows), atol=1e-12
        )
        np.testing.assert_array_equal(module.predict(rows), model.predict(rows))


def test_the_exported_file_needs_numpy_alone(tmp_path):
    x, y = table()
    MetaClassifier(8).fit(frame(x), y).export(tmp_path / "model.py")
    code = "import sys, model; model.predict([[1.0, None, 0.2, 'red']]); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert not {"jax", "jaxmeta", "sklearn", "scipy", "pandas"} & set(done.stdout.split())


def test_the_exported_file_knows_names_levels_and_width(tmp_path):
    x, y = table()
    model = MetaClassifier(8).fit(frame(x), y)
    module = exported(model, tmp_path / "model.py")
    want = model.predict_proba(frame(x))
    assert module.NAMES == ["income", "age", "height", "colour"]
    assert module.COLUMNS[3].levels == ("black", "blue", "green", "red")
    for other in (
        frame(x)[["colour", "age", "income", "height"]],
        polars.from_dict({name: frame(x)[name].tolist() for name in frame(x)}),
        frame(x).to_numpy(),
        frame(x).to_numpy().tolist(),
        np.c_[x[:, :3], np.array([3, 2, 1, 0])[x[:, 3].astype(int)]],
    ):
        np.testing.assert_allclose(module.predict_proba(other), want, atol=1e-12)
    for rows, said in (
        (x[:, :3], "3 columns, and the model has 4"),
        (x[0], r"rows are \[N, D\]"),
        (frame(x)[["age", "income"]], "the columns are"),
        (frame(x).assign(income="p"), "income was a number in fit, and now has a text"),
    ):
        with pytest.raises(ValueError, match=said):
            module.predict_proba(rows)


LABELS = [
    np.array([0, 1], np.uint8),
    np.array([False, True]),
    np.array(["no", "yes"]),
    np.array(["2020-01-01", "2021-01-01"], "datetime64[D]"),
    np.array([3600, 7200], "timedelta64[s]"),
    np.array([Size.LARGE, Size.SMALL], object),
    np.array(["it's", 'a "quote"\n'], object),
]


@pytest.mark.parametrize("labels", LABELS, ids=lambda labels: str(labels.dtype))
def test_labels_of_any_type_are_exported(tmp_path, labels):
    x, y = table()
    model = MetaClassifier(8).fit(x, labels[y])
    module = exported(model, tmp_path / "model.py")
    assert module.CLASSES.dtype == model.classes_.dtype
    np.testing.assert_array_equal(module.predict(x), model.predict(x))
