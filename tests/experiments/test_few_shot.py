"""Few-shot images end to end, at toy size: results, resume, evaluation alone, refusals."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import few_shot
from experiments.images import judging
from experiments.images.config import TrainConfig
from experiments.images.judging import load_trained, start_from
from experiments.images.learners import build_learner
from jaxmeta import Examples, Task

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
