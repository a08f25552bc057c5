"""The data sets of the few-shot experiment, to train on and to be judged on."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from experiments.common.data_folder import data_folder
from experiments.images.config import TrainConfig
from jaxmeta import datasets


def load_train_data(config: TrainConfig, data_dir: str | None, download: bool):
    """`(training data, config with its number of classes)`."""
    if config.dataset == "glyphs":
        data = datasets.glyphs("train")
    else:
        data = datasets.omniglot(_omniglot_dir(data_dir), "background", download=download)
    orientations = (4 if config.rotations else 1) * (2 if config.reflections else 1)
    return data, replace(config, num_classes=orientations * len(data.images))


def some_classes(data: datasets.ImageClasses, count: int, seed: int) -> datasets.ImageClasses:
    """So many classes, drawn at random; those of a smaller number are among those of a larger.

    Raises:
      ValueError: if there are not that many.
    """
    if count > len(data.images):
        raise ValueError(f"{count} classes were asked for, but there are {len(data.images)}.")
    rows = np.sort(np.random.default_rng(seed).permutation(len(data.images))[:count])
    return data._replace(
        images=data.images[rows],
        counts=data.counts[rows],
        groups=data.groups[rows],
        class_names=tuple(data.class_names[row] for row in rows),
    )


def load_eval_data(dataset: str, data_dir: str | None, eval_data: str | None, download: bool):
    """The classes to be judged on, none of which is trained on."""
    if eval_data is not None:
        return datasets.read_drawings(eval_data)
    if dataset == "glyphs":
        return datasets.glyphs("test")
    return datasets.omniglot(_omniglot_dir(data_dir), "evaluation", download=download)


def _omniglot_dir(data_dir: str | None) -> Path:
    archives = "images_background.zip and images_evaluation.zip"
    return data_folder(data_dir, "omniglot", archives)
