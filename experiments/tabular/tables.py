"""Real tables for the tabular experiments: read them, draw splits, judge probabilities."""

import json
from typing import NamedTuple

import numpy as np

from experiments.common.data_folder import data_folder
from experiments.common.evidence import auc
from jaxmeta import Task
from jaxmeta.tabular.meta_net import table_description, table_examples

MOST_COLUMNS, MOST_CLASSES, MOST_TEST_ROWS = 20, 5, 1000
LEAST_TEST_ROWS = 50
_LEAST_PROBABILITY = 1e-6


class Table(NamedTuple):
    """One data set: columns `x [N, D]` with NaN where missing, classes `y [N]`.

    Attributes:
      name: of the data set.
      x: numbers as they are, categorical columns as codes.
      y: classes 0..C-1.
      categorical: which columns hold codes, bool `[D]`.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    categorical: np.ndarray


class Split(NamedTuple):
    """Rows to fit on and rows to be judged on, both `Table`s with the same columns."""

    support: Table
    test: Table


def load_tables(data_dir: str | None, file: str = "tabular_dev.npz") -> list[Table]:
    """One table a family, those of at most `MOST_CLASSES` classes.

    Args:
      data_dir: the folder of the file and of the JSON beside it, or its parent; by default
        JAXMETA_DATA.
      file: the archive, `NAME/X`, `NAME/y`, `NAME/cat` for each name in `names`.

    Raises:
      ValueError: if there is no folder, or no such file in it.
    """
    folder = data_folder(data_dir, "tabular", file)
    if not (folder / file).exists():
        raise ValueError(f"There is no {file} in {folder}: pass --data-dir or set JAXMETA_DATA.")
    families = {
        name: entry["family"]
        for name, entry in json.loads((folder / file).with_suffix(".json").read_text()).items()
    }
    tables: dict[str, Table] = {}
    with np.load(folder / file) as archive:
        for name in map(str, archive["names"]):
            x, y, categorical = (archive[f"{name}/{key}"] for key in ("X", "y", "cat"))
            if y.max() < MOST_CLASSES:
                tables.setdefault(families[name], Table(name, x, y, categorical))
    return list(tables.values())


def draw_split(table: Table, *, rows: int, seed: int) -> Split | None:
    """A stratified split, the same for every method.

    None where the table is too short, or `rows` too few for two of each class.
    """
    if len(table.y) < rows + LEAST_TEST_ROWS or rows < 2 * (table.y.max() + 1):
        return None
    rng = np.random.default_rng([seed, sum(map(ord, table.name))])
    order = rng.permutation(len(table.y))
    wanted = _stratified_counts(np.bincount(table.y), rows)
    rank = np.empty(len(order), int)  # of each row within its class, in the order drawn
    for c in range(len(wanted)):
        of_class = order[table.y[order] == c]
        rank[of_class] = np.arange(len(of_class))
    seen = rank[order] < wanted[table.y[order]]
    columns = np.sort(rng.permutation(table.x.shape[1])[:MOST_COLUMNS])
    parts = order[seen], order[~seen][:MOST_TEST_ROWS]
    return Split(
        *(
            Table(table.name, table.x[np.ix_(p, columns)], table.y[p], table.categorical[columns])
            for p in parts
        )
    )


def as_task(split: Split, *, rows: int, num_terms: int = 0) -> Task:
    """The split as a task of the tabular meta-net, padded to `rows`, 1,000 queries, 20 columns."""
    support, test = (
        table_examples(table.x, table.y, rows=size, columns=MOST_COLUMNS)
        for table, size in zip(split, (rows, MOST_TEST_ROWS), strict=True)
    )
    categorical = split.support.categorical
    return Task(
        support, test, table_description(categorical, columns=MOST_COLUMNS, num_terms=num_terms)
    )


def load_tasks(data_dir: str, *, rows: int) -> list[Task]:
    """One split of each table as a task of the tabular meta-net.

    Raises:
      ValueError: if there is no such folder, or no table has rows enough.
    """
    tables = load_tables(data_dir)
    splits = [draw_split(table, rows=rows, seed=0) for table in tables]
    found = [as_task(split, rows=rows) for split in splits if split is not None]
    if not found:
        raise ValueError(
            f"None of the {len(tables)} tables of {data_dir} gives {rows} support rows, two of "
            "each class, and others to be judged on: take other --rows."
        )
    return found


def _stratified_counts(counts: np.ndarray, rows: int) -> np.ndarray:
    """Rows of each class: in proportion, at least two of each, `rows` in all."""
    wanted = np.maximum(2, np.floor(rows * counts / counts.sum()).astype(int))
    while wanted.sum() != rows:
        # The class that is furthest from its share gains or loses a row.
        excess = wanted - rows * counts / counts.sum()
        if wanted.sum() < rows:
            wanted[excess.argmin()] += 1
        else:
            wanted[np.where(wanted > 2, excess, -np.inf).argmax()] -= 1
    return wanted


def judge(probabilities: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Log-loss in nats, accuracy, AUC (one against the rest, averaged) and calibration error.

    All are NaN where a probability is not finite.
    """
    if not np.isfinite(probabilities).all():
        return dict.fromkeys(("log_loss", "accuracy", "auc", "calibration"), float("nan"))
    p = np.clip(probabilities, _LEAST_PROBABILITY, None)
    p = p / p.sum(axis=1, keepdims=True)
    present = [c for c in range(p.shape[1]) if 0 < (y == c).sum() < len(y)]
    return {
        "log_loss": float(-np.log(p[np.arange(len(y)), y]).mean()),
        "accuracy": float((p.argmax(axis=1) == y).mean()),
        "auc": float(np.mean([auc(p[:, c], y == c) for c in present])) if present else 0.5,
        "calibration": _calibration_error(p.max(axis=1), p.argmax(axis=1) == y),
    }


def _calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error of the favoured class in bins of equal width."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(place, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(right))
