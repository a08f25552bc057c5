"""The one-shot classification challenge of Omniglot: 20 runs, each of 20 characters of a script."""

import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.common.documents import plus_minus
from experiments.common.documents import table as as_table
from experiments.images.judging import Trained, check_ways
from experiments.images.learners import build_learner
from jaxmeta import Examples, Task, datasets, evaluate
from jaxmeta.evaluation import interval_over_groups

WAYS = 20
_LABELS = "class_labels.txt"


def read_runs(path: Path) -> Task:
    """The runs as a batch of tasks, from the official `all_runs.zip` or an archive of NumPy.

    The latter holds `train_images` and `test_images [R, 20, 28, 28]`, uint8 with ink 255, and
    `test_labels [R, 20]`, indices into the training images of the run.

    Raises:
      ValueError: if it is neither.
      OSError: if it cannot be read.
    """
    arrays = _of_zip(path) if path.suffix == ".zip" else _of_numpy(path)
    known, unseen, labels = arrays
    if known.shape[1:] != (WAYS, 28, 28) or unseen.shape[:2] != labels.shape:
        raise ValueError(
            f"{path} holds no runs of {WAYS} characters: images {known.shape} and {unseen.shape}, "
            f"labels {labels.shape}."
        )
    classes = np.broadcast_to(np.arange(WAYS), known.shape[:2])
    return Task(_rows(known, classes), _rows(unseen, labels))


def _rows(images: np.ndarray, labels: np.ndarray) -> Examples:
    x = jnp.asarray(images[..., None], jnp.float32) / 255.0
    return Examples(x, jnp.asarray(labels, jnp.int32), jnp.ones(labels.shape))


def _of_numpy(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with np.load(path) as arrays:
        missing = {"train_images", "test_images", "test_labels"} - set(arrays)
        if missing:
            raise ValueError(f"{path} holds no runs: it lacks {', '.join(sorted(missing))}.")
        return arrays["train_images"], arrays["test_images"], arrays["test_labels"]


def _of_zip(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Drawings by their layout, `run01/training/class01.png`, and labels by their names."""
    with zipfile.ZipFile(path) as archive:
        listed = {
            name.split("/")[-2]: archive.read(name).decode()
            for name in archive.namelist()
            if name.endswith(f"/{_LABELS}") and not name.startswith("__MACOSX")
        }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the lists of labels, which are no drawings
        drawings = datasets.read_drawings(path)
    images = dict(zip(drawings.class_names, drawings.images, strict=True))
    runs = sorted(listed)
    if not runs or {f"{run}/{part}" for run in runs for part in ("training", "test")} - set(images):
        raise ValueError(
            f"{path} is no all_runs.zip: it needs run01/training, run01/test, {_LABELS}."
        )
    labels = np.array([_labels(listed[run]) for run in runs])
    return (
        np.stack([images[f"{run}/training"][:WAYS] for run in runs]),
        np.stack([images[f"{run}/test"][:WAYS] for run in runs]),
        labels,
    )


def _labels(text: str) -> list[int]:
    """Of the test images in the order of their names, the place of their class among the names."""
    pairs = sorted(line.split() for line in text.splitlines() if line.strip())
    classes = sorted({known for _, known in pairs})
    return [classes.index(known) for _, known in pairs]


def judge_all(learners: list[Trained], runs: Task) -> list[dict[str, Any]]:
    """A row for each learner that can tell so many classes apart; of the others it says why not."""
    rows = []
    for trained in learners:
        try:
            check_ways(trained.config, WAYS)
        except ValueError as refused:
            sys.stderr.write(f"The runs are left out: {refused}\n")
            continue
        rows.append(judge_runs(trained, runs))
    return rows


def judge_runs(trained: Trained, runs: Task) -> dict[str, Any]:
    """A row: the error over the runs, each of whose test images is judged on its own."""
    result = evaluate(build_learner(trained.config, WAYS), trained.theta, runs)
    errors = 1.0 - result.per_task.astype(np.float64)
    return {
        "learner": trained.name,
        "error": float(errors.mean()),
        "ci95_runs": interval_over_groups(errors, np.arange(len(errors))),
        "errors": errors,
        "num_runs": len(errors),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The errors as text."""
    return as_table(
        [
            {
                "learner": row["learner"],
                "error %, 20-way 1-shot within a script": plus_minus(
                    row["error"], row["ci95_runs"]
                ),
                "runs": str(row["num_runs"]),
            }
            for row in rows
        ]
    )
