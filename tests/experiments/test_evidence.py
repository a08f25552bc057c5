"""What the experiments say about their numbers: baselines, verdicts, official runs, bounds."""

import json
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import few_shot, training_classes
from experiments.images import data_sets, guard, one_shot_runs
from experiments.images.config import TrainConfig
from experiments.images.judging import Trained
from experiments.images.learners import build_learner
from experiments.sparse import certificates
from experiments.sparse.learners import path_learners
from jaxmeta import Evaluation, Examples, Task, datasets
from jaxmeta.evaluation import occam_bound

ROWS = Examples(jnp.zeros((3, 28, 28, 1)), jnp.arange(3), jnp.ones(3))


def drawn(root, alphabets=6):
    """Folders in Omniglot's layout: scribbles of two characters of each alphabet, 4 of each."""
    rng = np.random.default_rng(0)
    for subset in ("images_background", "images_evaluation"):
        for character in range(2 * alphabets):
            folder = root / subset / f"Alphabet{character // 2}" / f"character{character:02}"
            folder.mkdir(parents=True)
            shape = rng.random((28, 28)) < 0.7
            for drawing in range(4):
                noisy = shape ^ (rng.random((28, 28)) < 0.05)
                Image.fromarray(noisy.astype(np.uint8) * 255).save(folder / f"{drawing}.png")
    return root


def trained(learner, **settings):
    config = TrainConfig(learner, "omniglot", "conv4", 2, **settings)
    theta = build_learner(config, 3).init(jax.random.key(0), Task(ROWS, ROWS))
    return Trained(learner, config, theta, 0.0)


def test_every_table_holds_plain_classifiers_on_its_features(tmp_path, capsys):
    data = drawn(tmp_path / "data")
    flags = ["--dataset", "omniglot", "--data-dir", str(data), "--network", "conv4", "--width", "2"]
    flags += ["--steps", "1", "--train-ways", "3", "--ways", "3", "--eval-tasks", "60"]
    flags += ["--queries", "2", "--train-queries", "2", "--out", str(tmp_path / "out")]
    flags += ["--learner", "prototypes", "nearest_neighbour"]
    assert few_shot.main(flags) == 0
    shown = capsys.readouterr().out
    rows = json.loads((tmp_path / "out" / "result.json").read_text())["results"]
    by_name = {row["learner"]: row for row in rows}
    assert set(by_name) == {
        "prototypes",
        "nearest_neighbour",
        "centroid on prototypes",
        "logistic on prototypes",
    }
    # With one shot the nearest cosine is the prototypes' own rule.
    ours, plain = by_name["prototypes"], by_name["centroid on prototypes"]
    assert ours["accuracy"] == plain["accuracy"] and plain["baseline"] is True
    for name in ("prototypes", "nearest_neighbour"):
        found = by_name[name]["to_baseline"]
        best = max(row["accuracy"] for row in rows if row["baseline"])
        np.testing.assert_allclose(found["mean"], by_name[name]["accuracy"] - best, atol=1e-6)
        assert found["verdict"] in ("win", "tie", "loss") and found["verdict"] in shown
        assert found["ci95_classes"] >= 0.0
    assert ours["ci95_classes"] > 0 and ours["log_loss"] > 0 and 0 <= ours["calibration_error"] <= 1
    low, high = ours["betting_interval"]
    assert low < ours["accuracy"] < high
    assert "for new classes" in shown
    assert (tmp_path / "out" / "reliability.png").stat().st_size > 1000


def test_a_win_lies_outside_of_the_interval_over_classes():
    rng = np.random.default_rng(0)
    held = np.stack([rng.permutation(9)[:3] for _ in range(60)])
    baseline = np.zeros(60)

    def row(values, *, plain=False):
        result = Evaluation(values.mean(), 0.0, values, 1.0, 1.0, 1.0, over="classes", held=held)
        row = {"ways": 3, "shots": 1, "accuracy": values.mean(), "baseline": plain}
        return row | {"evaluation": result}

    effects = np.linspace(-1, 1, 9)[held].sum(axis=1)
    rows = [row(baseline, plain=True), row(baseline + 0.5), row(baseline - 0.5)]
    rows.append(row(baseline + effects + 0.3))  # sure over these classes, not over others
    guard.compare_to_baselines(rows)
    assert [each["to_baseline"]["verdict"] for each in rows[1:]] == ["win", "loss", "tie"]
    assert rows[3]["to_baseline"]["ci95"] < 0.3 < rows[3]["to_baseline"]["ci95_classes"]
    assert "to_baseline" not in rows[0] and guard.as_text(rows[0]) == ""


def test_without_an_embedding_the_baselines_see_pixels():
    for learners in ([trained("maml")], [trained("nearest_neighbour")]):
        names = {each.name for each in guard.baselines(learners)}
        assert names == {"centroid on pixels", "logistic on pixels"}
    first = guard.baselines([trained("maml"), trained("hypernet")])[0]
    assert first.name == "centroid on hypernet"
    w = build_learner(first.config, 3).adapt(first.theta, ROWS)
    assert w.kernel.shape[1] == 3


def official(path, runs=2):
    """An `all_runs.zip`: 20 scribbles a run, and each of them once more, in another order."""
    rng, labels = np.random.default_rng(1), []
    with zipfile.ZipFile(path, "w") as archive:
        for run in range(1, runs + 1):
            order = rng.permutation(20)
            shapes = (rng.random((20, 105, 105)) < 0.5).astype(np.uint8) * 255
            lines = []
            for n in range(20):
                names = f"run{run:02}/training/class{n + 1:02}", f"run{run:02}/test/item{n + 1:02}"
                for name, shape in zip(names, (shapes[n], shapes[order[n]]), strict=True):
                    with archive.open(f"all_runs/{name}.png", "w") as file:
                        Image.fromarray(shape).convert("1").save(file, "png")
                lines.append(f"{names[1]}.png run{run:02}/training/class{order[n] + 1:02}.png")
            archive.writestr(f"all_runs/run{run:02}/class_labels.txt", "\n".join(lines) + "\n")
            labels.append(order)
    return np.array(labels)


def test_official_runs_are_read_from_either_form(tmp_path, capsys):
    labels = official(tmp_path / "all_runs.zip")
    runs = one_shot_runs.read_runs(tmp_path / "all_runs.zip")
    np.testing.assert_array_equal(runs.query.y, labels)
    known, unseen = (255 * np.asarray(part.x[..., 0]) for part in runs[:2])
    np.savez(
        tmp_path / "runs.npz",
        train_images=known.round().astype(np.uint8),
        test_images=unseen.round().astype(np.uint8),
        test_labels=labels,
    )
    again = one_shot_runs.read_runs(tmp_path / "runs.npz")
    for one, other in zip(jax.tree.leaves(runs), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    row = one_shot_runs.judge_runs(trained("nearest_neighbour"), runs)
    assert row["error"] == 0.0 and row["num_runs"] == 2 and "0.00" in one_shot_runs.table([row])
    fixed = trained("cavia", ways=3)
    rows = one_shot_runs.judge_all([fixed, trained("nearest_neighbour")], runs)
    assert [each["learner"] for each in rows] == ["nearest_neighbour"]
    assert "left out" in capsys.readouterr().err


def test_what_holds_no_runs_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros(3))
    np.savez(
        tmp_path / "b.npz",
        train_images=np.zeros((2, 5, 28, 28)),
        test_images=np.zeros((2, 5, 28, 28)),
        test_labels=np.zeros((2, 5)),
    )
    drawn(tmp_path / "data")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        for path in (tmp_path / "data").rglob("*.png"):
            archive.write(path, path.relative_to(tmp_path))
    for name, message in (("a.npz", "lacks"), ("b.npz", "20 characters"), ("c.zip", "all_runs")):
        with pytest.raises(ValueError, match=message):
            one_shot_runs.read_runs(tmp_path / name)
    flags = ["--eval-only", "--out", str(tmp_path / "out"), "--runs", str(tmp_path / "none.npz")]
    assert few_shot.main(flags) == 2


def test_errors_are_certified_by_the_bound_of_their_code():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 1, 12)) + 0.4 * rng.normal(size=(6, 8, 12))
    tasks = certificates.tasks_of_many_rows(
        vectors.astype(np.float32), ways=3, rows=500, tasks=4, seed=0
    )
    entries = path_learners(3)
    support, everything = tasks[0]
    assert support.x.shape == (500, 12) and everything.x.shape == (24, 12)
    whole = {row.tobytes() for row in np.asarray(everything.x)}
    assert {row.tobytes() for row in np.asarray(support.x)} <= whole
    learner = entries["prototypes"].build(1.0)
    thetas = {"prototypes": learner.init(jax.random.key(0), Task(*tasks[0])), "maml": None}
    rows = certificates.certify(entries, thetas, tasks, (1.0, 0.2))
    assert [row["learner"] for row in rows] == ["prototypes", "prototypes"]
    for row in rows:
        assert row["error"] <= row["bound"] and row["true_error"] <= row["bound"]
    assert rows[1]["bits"] < rows[0]["bits"] and rows[1]["bound"] < rows[0]["bound"]
    # Every task has the same bits here: the bound is that of the means, as long as errors are one.
    if rows[0]["error"] == 0.0:
        np.testing.assert_allclose(rows[0]["bound"], occam_bound(0.0, rows[0]["bits"], 500))


def test_fewer_classes_are_among_more_of_them():
    images = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 4, 4), np.uint8)
    names = tuple("abcdefghij")
    data = datasets.ImageClasses(
        images, np.full(10, 2, np.int32), np.zeros(10, np.int32), ("A",), names
    )
    few, many = (data_sets.some_classes(data, count, 3) for count in (4, 7))
    assert set(few.class_names) < set(many.class_names)
    for name, image in zip(many.class_names, many.images, strict=True):
        assert names[image[0, 0, 0]] == name
    with pytest.raises(ValueError, match="11 classes"):
        data_sets.some_classes(data, 11, 0)


@pytest.mark.slow
def test_the_gap_is_measured_for_each_number_of_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(training_classes, "LEAST_TASKS", 40)
    data = drawn(tmp_path / "data", alphabets=12)
    flags = ["--data-dir", str(data), "--learner", "prototypes", "--classes", "12", "24"]
    flags += ["--ways", "3", "--width", "2", "--steps", "1", "--eval-tasks", "60"]
    flags += ["--train-ways", "3", "--queries", "2", "--out", str(tmp_path / "out")]
    assert training_classes.main(flags) == 0
    rows = json.loads((tmp_path / "out" / "result.json").read_text())["results"]
    assert [row["classes"] for row in rows] == [12, 24]
    for row in rows:
        np.testing.assert_allclose(row["gap"], row["trained"] - row["new"], atol=1e-6)
        assert row["new_ci95_classes"] >= row["new_ci95"] * 0.99
        assert row["gap_ci95_classes"] > 0
    assert (tmp_path / "out" / "training_classes.png").stat().st_size > 1000
    assert training_classes.main([*flags, "--resume"]) == 0
