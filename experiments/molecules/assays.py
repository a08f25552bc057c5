"""Assays of molecules: a file of fingerprints and labels, without duplicates, and its splits."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.common.data_folder import data_folder

UNKNOWN = -1
NEEDED = {"fingerprint_bits", "label", "task", "smiles"}


class Assays(NamedTuple):
    """One file. N molecules, A assays.

    Attributes:
      name: of the file.
      bits: fingerprints, eight bits a byte `[N, 256]` uint8.
      label: 1 active, 0 inactive, -1 unknown `[N, A]` int8.
      task: names of the assays `[A]`.
      duplicates: rows of the file beyond one a molecule.
      conflicts: labels that such rows disagree about; they are unknown here.
    """

    name: str
    bits: np.ndarray
    label: np.ndarray
    task: np.ndarray
    duplicates: int = 0
    conflicts: int = 0


def load(data_dir: str | None, name: str) -> Assays:
    """The assays of `DIR/NAME.npz` or `DIR/assays/NAME.npz`, by flag or by JAXMETA_DATA.

    Raises:
      ValueError: if there is no folder, or the file is none of assays.
      OSError: if the file cannot be read.
    """
    path = folder(data_dir) / f"{name}.npz"
    with np.load(path) as arrays:
        if NEEDED - set(arrays):
            missing = ", ".join(sorted(NEEDED - set(arrays)))
            raise ValueError(f"{path} is no file of assays: it lacks {missing}.")
        bits, label, task, smiles = (
            arrays[key] for key in ("fingerprint_bits", "label", "task", "smiles")
        )
    if bits.dtype != np.uint8 or not len(bits) == len(label) == len(smiles):
        raise ValueError(f"{path} needs fingerprint_bits in uint8, and a label and SMILES a row.")
    if label.ndim != 2 or label.shape[1] != len(task) or not np.isin(label, (-1, 0, 1)).all():
        raise ValueError(f"{path} needs labels of 1, 0 or -1 [n, tasks], a column for each task.")
    if len(task) < 2:
        raise ValueError(f"{path} has one assay: there is none to learn from before it.")
    return without_duplicates(Assays(name, bits, label, task), smiles)


def folder(data_dir: str | None) -> Path:
    """The folder of the files."""
    return data_folder(data_dir, "assays", "files such as tox21.npz and sider.npz")


def files(data_dir: str | None) -> list[str]:
    """The names of all files in it.

    Raises:
      ValueError: if there is none.
    """
    found = sorted(path.stem for path in folder(data_dir).glob("*.npz"))
    if not found:
        raise ValueError(f"{folder(data_dir)} holds no file of assays (*.npz).")
    return found


def without_duplicates(data: Assays, smiles: np.ndarray) -> Assays:
    """One row for each SMILES, with what is known by any of its rows and denied by none."""
    _, first, of = np.unique(smiles, return_index=True, return_inverse=True)
    active, inactive = (np.zeros((len(first), data.label.shape[1]), bool) for _ in range(2))
    np.logical_or.at(active, of, data.label == 1)
    np.logical_or.at(inactive, of, data.label == 0)
    label = np.where(active, 1, np.where(inactive, 0, UNKNOWN)).astype(np.int8)
    conflict = active & inactive
    label[conflict] = UNKNOWN
    return data._replace(
        bits=data.bits[first],
        label=label,
        duplicates=len(smiles) - len(first),
        conflicts=int(conflict.sum()),
    )


def split(num_assays: int) -> tuple[np.ndarray, np.ndarray]:
    """Assays to learn from, and to be judged on: the last quarter.

    Of the twelve of Tox21 these are the last three, of the 27 of SIDER the last six, as published
    (Wang et al., PAR, NeurIPS 2021).
    """
    assays, at = np.arange(num_assays), num_assays - max(1, num_assays // 4)
    return assays[:at], assays[at:]


def folds(train: np.ndarray, most: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ways to part the training assays: those to learn from, and those to choose by.

    At most so many, each with a share of the assays to choose by; none if there is one assay.
    """
    count = min(most, len(train))
    if len(train) < 2:
        return []
    return [(np.setdiff1d(train, chosen), chosen) for chosen in np.array_split(train, count)]


def generator(*seed: int) -> np.random.Generator:
    """Random numbers by several integers, each of any sign."""
    return np.random.default_rng([each % 2**64 for each in seed])


def held_out(
    data: Assays, judged: np.ndarray, *, share: float, least: int, seed: int
) -> np.ndarray:
    """Which molecules meta-training never sees `[N]` bool: the same fingerprint, the same side.

    A share of the fingerprints at random; then more, until each assay that is judged has `least`
    molecules of either label among them, or half of those that it has.
    """
    _, of = np.unique(data.bits, axis=0, return_inverse=True)
    of = of.ravel()
    rng = generator(seed)
    order = rng.permutation(of.max() + 1)
    out = np.zeros(len(order), bool)
    out[order[: round(share * len(order))]] = True
    for assay in judged:
        for label in (0, 1):
            mine = np.unique(of[data.label[:, assay] == label])
            wanted = min(least, len(mine) // 2)
            left = rng.permutation(mine[~out[mine]])
            out[left[: max(0, wanted - int(out[mine].sum()))]] = True
    return out[of]
