"""Theta as one file, and the one that ships."""

import functools
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from jaxmeta.embeddings._formula import START, HeadTheta
from jaxmeta.embeddings._theta import LEVELS, Calibration, Theta


def save_theta(path: Path | str, theta: Theta, about: dict[str, Any]) -> None:
    """Write theta as a checkpoint of the library, with what it was trained on."""
    from jaxmeta import checkpoint

    calibration = Calibration(*(np.asarray(part, np.float32) for part in theta.calibration))
    names = np.zeros((0, 0), np.float32) if theta.names is None else theta.names
    head = HeadTheta(*(np.float32(value) for value in theta.head))
    shapes = {"knots": len(calibration.log_shots), "names": list(names.shape)}
    checkpoint.save(path, Theta(head, calibration, names), {"shapes": shapes, "about": about})


def load_theta(path: Path | str) -> tuple[Theta, dict[str, Any]]:
    """Theta, and what it was trained on.

    Raises:
      ValueError: for a file that is missing, damaged, or of another learner.
    """
    from jaxmeta import checkpoint

    config = checkpoint.read_config(path)
    if "shapes" not in config:
        raise ValueError(f"{path} is no theta of a FewShotClassifier.")
    shapes = config["shapes"]
    table = np.zeros((shapes["knots"], len(LEVELS)), np.float32)
    calibration = Calibration(table[:, 0], table, table)
    head = HeadTheta(*(np.float32(value) for value in START))
    like = Theta(head, calibration, np.zeros(shapes["names"], np.float32))
    theta = checkpoint.restore(path, like)
    names = np.asarray(theta.names, np.float32)
    return (
        Theta(
            HeadTheta(*(float(value) for value in theta.head)),
            Calibration(*(np.asarray(part, np.float64) for part in theta.calibration)),
            names if names.size else None,
        ),
        config["about"],
    )


@functools.cache
def default_theta() -> Theta:
    """The theta that ships: of CLINC150's intents as all-MiniLM-L6-v2 embeds them."""
    path = resources.files("jaxmeta.embeddings") / "weights" / "clinc150.ckpt"
    with resources.as_file(path) as file:
        return load_theta(file)[0]
