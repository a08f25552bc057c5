"""Sentences by intent: embeddings, names of the intents, and the splits of the classes."""

from typing import Any, NamedTuple

import numpy as np

from experiments.common.data_folder import data_folder
from jaxmeta.tasks import vector_episodes
from jaxmeta.types import Sampler

SPLITS = 5
PARTS = ("train", "valid", "test")


class Intents(NamedTuple):
    """One data set. N sentences, K intents.

    Attributes:
      name: of the data set.
      embedding: of the sentences, unit length `[N, F]`.
      label: the intent of each `[N]`.
      name_embedding: of the names of the intents `[K, F]`.
      splits: of each split the intents of its three `PARTS`.
    """

    name: str
    embedding: np.ndarray
    label: np.ndarray
    name_embedding: np.ndarray
    splits: tuple[dict[str, np.ndarray], ...]


def load(data_dir: str | None, name: str) -> Intents:
    """A data set from `DIR/NAME.npz` or `DIR/intents/NAME.npz`, by flag or by JAXMETA_DATA.

    Raises:
      ValueError: if there is no folder, or the file lacks something.
      OSError: if the file cannot be read.
    """
    files = "clinc150.npz and banking77.npz"
    path = data_folder(data_dir, "intents", files) / f"{name}.npz"
    with np.load(path) as arrays:
        needed = {"embedding", "label", "name_embedding"}
        needed |= {f"split{s + 1}_{part}" for s in range(SPLITS) for part in PARTS}
        if needed - set(arrays):
            missing = ", ".join(sorted(needed - set(arrays))[:3])
            raise ValueError(f"{path} is no data set of intents: it lacks {missing}.")
        splits = tuple(
            {part: arrays[f"split{s + 1}_{part}"] for part in PARTS} for s in range(SPLITS)
        )
        rows = (arrays["embedding"], arrays["label"], arrays["name_embedding"])
        return Intents(name, *rows, splits)


def tasks_of(data: Intents, classes: np.ndarray, **options: Any) -> Sampler:
    """Tasks of these intents."""
    rows = np.isin(data.label, classes)
    names = data.name_embedding[np.sort(classes)]
    return vector_episodes(data.embedding[rows], data.label[rows], names=names, **options)


def load_strangers(data_dir: str | None, num_features: int) -> np.ndarray:
    """Sentences of no intent `[M, F]`, from `clinc150_out_of_scope.npz`; none if there is no file.

    Raises:
      ValueError: for sentences that are embedded otherwise.
    """
    path = data_folder(data_dir, "intents", "the data sets") / "clinc150_out_of_scope.npz"
    if not path.exists():
        return np.zeros((0, num_features))
    with np.load(path) as arrays:
        found = arrays["embedding"]
    if found.shape[1] != num_features:
        raise ValueError(f"{path} holds {found.shape[1]} features, the intents {num_features}.")
    return found
