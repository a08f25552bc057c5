"""The experiment scripts end to end, at toy size: results, resume, evaluation alone, refusals."""

import json
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from experiments import few_shot, meta_gradients, scaling, sinusoid, sparsity_path, two_tasks
from experiments.common import training_loop
from experiments.images import judging
from experiments.images.config import TrainConfig
from experiments.images.judging import load_trained, start_from
from experiments.images.learners import build_learner
from jaxmeta import Examples, Task, TrainState, export

NAMES = ["matching", "maml", "cavia", "relation", "transfer", "nearest_neighbour"]
TINY = [
    "--dataset",
    "omniglot",
    "--network",
    "conv4",
    "--width",
    "2",
    "--steps",
    "3",
    "--inner-steps",
    "1",
]
TINY += [
    "--train-ways",
    "3",
    "--train-queries",
    "2",
    "--ways",
    "3",
    "--eval-tasks",
    "6",
    "--queries",
    "2",
    "--no-guard",
]


ROWS = Examples(jnp.zeros((3, 28, 28, 1)), jnp.arange(3), jnp.ones(3))
TASK = Task(ROWS, ROWS)


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    """A folder in Omniglot's layout: 4 alphabets' worth of random scribbles, 5 of each."""
    root = tmp_path_factory.mktemp("omniglot")
    rng = np.random.default_rng(0)
    for subset in ("images_background", "images_evaluation"):
        for character in range(4):
            shape = rng.random((28, 28)) < 0.7
            folder = root / subset / "Alphabet" / f"character{character:02}"
            folder.mkdir(parents=True)
            for drawing in range(5):
                noisy = shape ^ (rng.random((28, 28)) < 0.05)
                Image.fromarray(noisy.astype(np.uint8) * 255).save(folder / f"{drawing}.png")
    return root


def run(drawings: Path, out: Path, *flags: str) -> dict:
    arguments = [*TINY, "--data-dir", str(drawings), "--out", str(out), *flags]
    assert few_shot.main(arguments) == 0
    return json.loads((out / "result.json").read_text())


def row_of(learner: str, result: dict) -> dict:
    return next(row for row in result["results"] if row["learner"] == learner)


@pytest.fixture(scope="module")
def trained(drawings, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return out, run(drawings, out, "--learner", *NAMES)


@pytest.mark.slow
def test_few_shot_writes_results_metrics_checkpoints_and_plots(trained):
    out, result = trained
    rows = result["results"]
    assert {row["learner"] for row in rows} == set(NAMES)
    assert [row["accuracy"] for row in rows] == sorted((r["accuracy"] for r in rows), reverse=True)
    for row in rows:
        behind = row["to_best"]
        np.testing.assert_allclose(behind["mean"], row["accuracy"] - rows[0]["accuracy"], atol=1e-6)
        assert behind["ci95"] >= 0.0
        assert 0.0 <= row["accuracy"] <= 1.0 and row["ci95"] >= 0.0
        assert row["num_tasks"] == 6 and row["ways"] == 3 and row["inductive"] is True
        assert 0.0 < row["density"] <= 1.0 and row["versions"]["jax"] == jax.__version__
    # Scribbles with 5% noise are told apart by their pixels.
    assert row_of("nearest_neighbour", result)["accuracy"] > 0.9
    assert (out / "task.png").stat().st_size > 1000
    assert not list(out.glob(".*")), "nothing written aside is left"


@pytest.mark.slow
def test_evaluation_alone_repeats_the_numbers(drawings, trained, tmp_path):
    out, first = trained
    again = run(drawings, tmp_path, "--eval-only", "--checkpoints", str(out))
    by_name = {row["learner"]: row["accuracy"] for row in first["results"]}
    assert {row["learner"]: row["accuracy"] for row in again["results"]} == by_name


@pytest.mark.slow
def test_the_transductive_number_says_so(drawings, tmp_path):
    """Batch statistics of the queries, in a gradient learner that asks and in one that must."""
    flags = ["--network", "conv4_batch", "--learner", "maml", "prototypes"]
    for statistics, maml_is_inductive in (("support", True), ("query", False)):
        again = ["--eval-only"] if statistics == "query" else []
        rows = run(drawings, tmp_path, *flags, *again, "--statistics", statistics)["results"]
        inductive = {row["learner"]: row["inductive"] for row in rows}
        assert inductive == {"maml": maml_is_inductive, "prototypes": False}


@pytest.mark.slow
def test_a_learner_starts_from_anothers_network(drawings, trained, tmp_path):
    out, _ = trained
    source = load_trained(out / "matching.ckpt").theta["network"]
    for learner in ("maml", "relation"):
        theta = build_learner(TrainConfig(learner, "omniglot", "conv4", 2), 3).init(
            jax.random.key(1), TASK
        )
        start = start_from(out / "matching.ckpt", learner, theta)
        jax.tree.map(np.testing.assert_array_equal, start["network"], source)
        own = start_from(out, learner, theta)
        want = load_trained(out / f"{learner}.ckpt").theta
        jax.tree.map(np.testing.assert_array_equal, own, want)


@pytest.mark.slow
def test_evaluation_on_other_drawings(drawings, trained, tmp_path):
    out, _ = trained
    unseen = str(drawings / "images_background")
    result = run(
        drawings, tmp_path, "--eval-only", "--checkpoints", str(out), "--eval-data", unseen
    )
    assert {row["num_tasks"] for row in result["results"]} == {6}


def test_resume_ends_where_an_uninterrupted_run_ends(tmp_path):
    """Ctrl-C during step 3 of 6, then a second call: the same state to the bit."""

    @jax.jit
    def step(state: TrainState):
        noise = jax.random.normal(jax.random.fold_in(state.key, state.step), (4,))
        moved = state._replace(theta=0.9 * state.theta + noise, step=state.step + 1)
        return moved, {"loss": jnp.zeros(1), "accuracy": jnp.ones(1)}

    def interrupted(state: TrainState):
        if int(state.step) == 2:
            signal.raise_signal(signal.SIGINT)
        return step(state)

    start = TrainState(jnp.zeros(4), (), jax.random.key(1), jnp.int32(0))
    settings = {"name": "toy", "config": {"a": 1}, "num_steps": 6, "log_every": 2}
    whole, _ = training_loop.train(step, start, out=_folder(tmp_path / "a"), **settings)
    out = _folder(tmp_path / "b")
    with pytest.raises(KeyboardInterrupt):
        training_loop.train(interrupted, start, out=out, **settings)
    restored, seconds = training_loop.resume(start, name="toy", config={"a": 1}, out=out)
    assert int(restored.step) == 3 and seconds >= 0
    with pytest.raises(ValueError, match=r"other settings than these \(a\)"):
        training_loop.resume(start, name="toy", config={"a": 2}, out=out)
    resumed, _ = training_loop.train(step, restored, out=out, **settings)
    np.testing.assert_array_equal(whole.theta, resumed.theta)
    assert [record["step"] for record in training_loop.read_metrics(out)] == [2, 4, 6]


def test_training_stops_after_faults_and_keeps_the_last_good(tmp_path, monkeypatch):
    monkeypatch.setattr(training_loop, "MOST_FAULTS", 4)
    monkeypatch.setattr(training_loop, "_SAVE_EVERY_SECONDS", 0.0)
    tx = training_loop.skip_faults(optax.sgd(1.0))

    @jax.jit
    def step(state: TrainState):
        fault = (state.step == 1) | (state.step >= 4)
        updates, opt_state = tx.update(jnp.where(fault, jnp.nan, 1.0), state.opt_state)
        moved = state._replace(theta=state.theta + updates, opt_state=opt_state)
        return moved._replace(step=state.step + 1), {"loss": jnp.zeros(1)}

    start = TrainState(jnp.zeros(()), tx.init(jnp.zeros(())), jax.random.key(1), jnp.int32(0))
    settings = {"name": "toy", "config": {}, "out": tmp_path}
    with pytest.raises(ValueError, match="gradients of 4 outer steps in a row, up to step 8"):
        training_loop.train(step, start, num_steps=20, log_every=1, **settings)
    records = list(training_loop.read_metrics(tmp_path))
    assert [record["skipped"] for record in records] == [0, 1, 1, 1, 2, 3, 4]
    kept, _ = training_loop.resume(start, **settings)
    assert kept.theta == -3.0 and kept.step == 7


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.slow
def test_training_starts_from_a_checkpoint_when_told_to(drawings, trained, tmp_path):
    out, first = trained
    flags = ["--learner", "matching", "--init-from", str(out), "--learning-rate", "0"]
    result = run(drawings, tmp_path, *flags, "--most-shots", "2")
    # At a rate of zero what comes out is what went in.
    assert row_of("matching", result)["accuracy"] == row_of("matching", first)["accuracy"]


@pytest.mark.slow
def test_resume_refuses_other_settings(drawings, trained, capsys):
    out, _ = trained
    flags = [*TINY, "--data-dir", str(drawings), "--out", str(out), "--resume", "--eta", "0.5"]
    assert few_shot.main([*flags, "--learner", "matching"]) == 2
    assert "other settings" in capsys.readouterr().err


@pytest.mark.slow
def test_resume_of_a_finished_run_trains_no_further(drawings, trained):
    out, first = trained
    result = run(drawings, out, "--resume", "--learner", "matching")
    again, first = row_of("matching", result), row_of("matching", first)
    for name in ("accuracy", "steps"):
        assert again[name] == first[name]
    # The seconds of the first call still count.
    assert again["seconds"] >= 0.99 * first["seconds"] > 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--ways", "9"], "9 ways"),
        (["--shots", "5"], "images of each class"),
        (["--eval-data", "/nowhere.zip"], "no file or folder"),
        (["--eta", "-1"], "eta=-1"),
        (["--density", "0"], "share"),
    ],
)
def test_refusals_are_one_sentence(drawings, tmp_path, capsys, flags, message):
    arguments = [*TINY, "--data-dir", str(drawings), "--out", str(tmp_path), *flags]
    assert few_shot.main([*arguments, "--learner", "matching"]) == 2
    assert message in capsys.readouterr().err


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


@pytest.mark.parametrize(
    "path",
    sorted(few_shot.CHECKPOINTS.glob("*/*.ckpt")),
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_shipped_checkpoints_can_be_read_and_are_small(path):
    trained = judging.load_trained(path)
    assert trained.config.dataset == path.parent.name and trained.seconds > 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained.theta))
    assert path.stat().st_size < 1_000_000
