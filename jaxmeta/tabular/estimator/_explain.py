"""Emitted models for people to read, and as a file that needs NumPy alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmeta._files import write_atomically
from jaxmeta.tabular._arrays import HINGES, TERMS, EmittedTable
from jaxmeta.tabular.estimator import _model as models
from jaxmeta.tabular.estimator._model import TableModel

_WIDEST = 52  # characters of a term: levels can have long names


class Term(NamedTuple):
    """One live term: what it is, its column (None for a landmark), and a weight a contrast."""

    text: str
    column: int | None
    weights: np.ndarray


def live_terms(
    w: EmittedTable,
    names: Sequence[str],
    levels: Sequence[Sequence[Any] | None],
    landmark_rows: Sequence[int],
    num_classes: int,
) -> list[Term]:
    """The terms with a weight, the heaviest first.

    Args:
      w: as emitted, of one table.
      names: of the columns.
      levels: of each column, what its codes stand for; None for the codes themselves.
      landmark_rows: which row each live landmark is.
      num_classes: classes C.
    """
    kernel = np.asarray(w.kernel)[:, : num_classes - 1]
    first_bump, first_contrast = len(w.dictionary.metric), len(w.dictionary.mean)
    rows, terms = iter(landmark_rows), []
    for index in np.flatnonzero(kernel.any(axis=1)).tolist():
        if index >= first_contrast:
            column = index - first_contrast
            term = _contrast(w, names[column], levels[column], column, kernel[index])
        elif index >= first_bump:
            term = Term(f"near row {next(rows)}", None, kernel[index])
        else:
            column, place = divmod(index, TERMS)
            text = _text(w, names[column], levels[column], column, place)
            term = Term(text, column, kernel[index])
        terms.append(term)
    return sorted(terms, key=lambda term: -np.abs(term.weights).max())


def _text(w: EmittedTable, name: str, levels: Sequence[Any] | None, column: int, place: int) -> str:
    dictionary = w.dictionary
    if place == TERMS - 1:
        return f"{name} is missing"
    if dictionary.categorical[column]:
        return f"{name} is {_level(w, levels, column, place)}"
    if place == 0:
        return f"{name}"
    if place == 1:
        return f"{name}, its rank"
    return f"{name} above {dictionary.quantiles[column, HINGES[place - 2]]:.4g}"


def _contrast(
    w: EmittedTable, name: str, levels: Sequence[Any] | None, column: int, weights: np.ndarray
) -> Term:
    """Some levels rather than others; with one side only, that side."""
    sides = np.asarray(w.contrasts[column])
    if not (sides > 0).any():
        sides, weights = -sides, -weights
    ours, others = (
        " or ".join(_level(w, levels, column, place) for place in np.flatnonzero(side > 0).tolist())
        for side in (sides, -sides)
    )
    return Term(f"{name} is {ours}" + f" rather than {others}" * bool(others), column, weights)


def _level(w: EmittedTable, levels: Sequence[Any] | None, column: int, place: int) -> str:
    code = int(w.dictionary.levels[column, place])
    return f"{code if levels is None else levels[code]}"


def as_text(terms: Sequence[Term], bias: np.ndarray, classes: Sequence[Any]) -> str:
    """A line a term: its weights in standard deviations of the term, and a bar."""
    first, *others = classes
    width = min(max([len(term.text) for term in terms] + [9]), _WIDEST)
    title = "log-odds against " + str(first)
    lines = [f"{title:<{width + 2}}" + "".join(f"{f'{each}':>10.10}" for each in others)]
    most = max([float(np.abs(term.weights).max()) for term in terms] + [1e-9])
    lines.append(f"{'intercept':<{width + 2}}" + "".join(f"{each:>10.3f}" for each in bias))
    for term in terms:
        numbers = "".join(f"{each:>10.3f}" for each in term.weights)
        bar = "#" * round(12 * float(np.abs(term.weights).max()) / most)
        lines.append(f"{_shortened(term.text):<{width + 2}}{numbers}  {bar}")
    return "\n".join(lines)


def _shortened(text: str) -> str:
    return text if len(text) <= _WIDEST else text[: _WIDEST - 3] + "..."


def draw(terms: Sequence[Term], classes: Sequence[Any], path: Path | str) -> None:
    """A bar a term and contrast, the heaviest on top; at most 30 terms."""
    from matplotlib.figure import Figure  # the extra `plots`

    terms, others = list(terms[:30])[::-1], list(classes)[1:]
    figure = Figure(figsize=(7, 1.2 + 0.28 * len(terms)), layout="constrained")
    axes = figure.subplots()
    height, places = 0.8 / len(others), np.arange(len(terms))
    for c, name in enumerate(others):
        weights = [term.weights[c] for term in terms]
        axes.barh(places + height * (c - (len(others) - 1) / 2), weights, height, label=str(name))
    axes.set_yticks(places, [_shortened(term.text) for term in terms])
    axes.axvline(0.0, color="0.5", linewidth=0.8)
    axes.set_xlabel(f"log-odds against {classes[0]}, a standard deviation")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def write_module(emitted: Sequence[TableModel], classes: Sequence[Any], path: Path | str) -> None:
    """Write a Python file that needs NumPy alone: `CLASSES`, `predict_proba(x)`, `predict(x)`.

    x is `[N, D]` with NaN where missing, columns in the order of `fit`, names as their codes.
    """
    source = Path(models.__file__).read_text()
    lines = ["", "", "MODELS = ["]
    for model in emitted:
        lines.append("    TableModel(")
        for name, array in model._asdict().items():
            shape = "" if array.ndim < 2 else f".reshape({', '.join(map(str, array.shape))})"
            dtype = "int" if array.dtype.kind == "i" else "float"
            values = np.asarray(array).ravel().tolist()
            lines.append(f"        {name}=np.array({values!r}, {dtype}){shape},")
        lines.append("    ),")
    lines += ["]", f"CLASSES = np.array({list(classes)!r})", _FUNCTIONS]
    write_atomically(Path(path), (source + "\n".join(lines)).encode())


_FUNCTIONS = '''

def predict_proba(x):
    """Probabilities of `CLASSES`, `[N, C]`, of rows `x [N, D]`, NaN where missing."""
    return probabilities(MODELS, np.asarray(x, float))


def predict(x):
    """The likeliest class of each row `[N]`."""
    return CLASSES[predict_proba(x).argmax(axis=1)]
'''
