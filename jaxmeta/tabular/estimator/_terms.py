"""The live terms of an emitted model, in words."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxmeta.tabular._arrays import HINGES, TERMS, EmittedTable
from jaxmeta.tabular.estimator._columns import Column
from jaxmeta.tabular.estimator._reduction import Units

_LONGEST_NAME, _LONGEST_LEVEL = 26, 20  # characters
_DAY = 86_400.0


class Term(NamedTuple):
    """One live term: what it is, and a weight for each class but the first."""

    text: str
    weights: np.ndarray


class _Words(NamedTuple):
    """A column in words: its name, its levels, and what its numbers are."""

    name: str
    levels: list[str]
    kind: str


def live_terms(
    w: EmittedTable,
    columns: Sequence[Column],
    units: Units,
    landmark_rows: Sequence[int],
    num_classes: int,
) -> list[Term]:
    """The terms with a weight, the heaviest first.

    Args:
      w: as emitted, of one table.
      columns: those that were read.
      units: what was done to their numbers.
      landmark_rows: which row of `fit` each live landmark is.
      num_classes: classes C.
    """
    names = distinct([column.name for column in columns], _LONGEST_NAME)
    words = [
        _Words(name, distinct([str(level) for level in column.levels], _LONGEST_LEVEL), column.kind)
        for name, column in zip(names, columns, strict=True)
    ]
    kernel = np.asarray(w.kernel)[:, : num_classes - 1]
    first_bump, first_contrast = len(w.dictionary.metric), len(w.dictionary.mean)
    rows, terms = iter(landmark_rows), []
    for index in np.flatnonzero(kernel.any(axis=1)).tolist():
        if index >= first_contrast:
            column = index - first_contrast
            terms.append(_contrast(w, words[column], column, kernel[index]))
        elif index >= first_bump:
            terms.append(Term(f"near row {next(rows)}", kernel[index]))
        else:
            column, place = divmod(index, TERMS)
            text = _of_column(w, words[column], units, column, place)
            terms.append(Term(text, kernel[index]))
    return sorted(terms, key=lambda term: -np.abs(term.weights).max())


def distinct(texts: Sequence[str], longest: int) -> list[str]:
    """Texts on one line each, cut to a length, and still different where they were."""
    lines = [text if text.isprintable() else repr(text)[1:-1] for text in texts]
    cut = [line if len(line) <= longest else line[: longest - 3] + "..." for line in lines]
    result = []
    for place, (line, short) in enumerate(zip(lines, cut, strict=True)):
        if cut.count(short) > lines.count(line):  # made the same by cutting
            short = f"{line[: longest - 3 - len(str(place))]}...{place}"
        result.append(short)
    return result


def _of_column(w: EmittedTable, words: _Words, units: Units, column: int, place: int) -> str:
    dictionary = w.dictionary
    if place == TERMS - 1:
        return f"{words.name} is missing"
    if dictionary.categorical[column]:
        return f"{words.name} is {_level(w, words, column, place)}"
    if place == 0:
        return words.name
    if place == 1:
        return f"{words.name}, its rank"
    scale = float(units.scale[column])
    knot = units.centre[column] + scale * float(dictionary.quantiles[column, HINGES[place - 2]])
    return f"{words.name} above {_number(words, knot, scale)}"


def _number(words: _Words, value: float, scale: float) -> str:
    """A value of a column, with the digits in which its values differ."""
    if words.kind == "order":
        return words.levels[min(max(math.floor(value), 0), len(words.levels) - 1)]
    if words.kind == "date" and abs(value) < 1e11:
        moment = np.datetime64(round(value), "s")
        return str(moment.astype("datetime64[D]") if scale > _DAY else moment)
    digits = 4
    if value and abs(value) > scale:
        digits += math.ceil(math.log10(abs(value)) - math.log10(scale))
    return f"{value:.{min(digits, 15)}g}" + " s" * (words.kind == "duration")


def _contrast(w: EmittedTable, words: _Words, column: int, weights: np.ndarray) -> Term:
    """Some levels rather than others; with one side only, that side."""
    sides = np.asarray(w.contrasts[column])
    if not (sides > 0).any():
        sides, weights = -sides, -weights
    ours, others = (
        " or ".join(_level(w, words, column, place) for place in np.flatnonzero(side > 0).tolist())
        for side in (sides, -sides)
    )
    return Term(f"{words.name} is {ours}" + f" rather than {others}" * bool(others), weights)


def _level(w: EmittedTable, words: _Words, column: int, place: int) -> str:
    code = int(w.dictionary.levels[column, place])
    return words.levels[code] if 0 <= code < len(words.levels) else str(code)
