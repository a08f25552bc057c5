"""Columns of any table as numbers. Needs NumPy alone: exported models carry a copy of this file.

| a column holds | it is read as |
| --- | --- |
| numbers, booleans, decimals, or text that is all numbers | numbers |
| dates (also as text in ISO 8601), periods | seconds since 1970, UTC |
| lengths of time, times of day | seconds |
| categories with an order | their places in that order |
| other categories, other text | names without order |

None, NaN, NaT, `pandas.NA`, masked and blank cells are missing. Anything else is refused by the
name of its column, and so is a column that is of another kind than it was in `fit`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmeta.tabular.estimator._frames import cells_of, is_category, order_of
from jaxmeta.tabular.estimator._values import (
    LARGEST,
    is_missing,
    kind_of,
    level_of,
    number_of,
    parse,
    plain_numbers,
    text_of,
)

UNSEEN = -2.0
"""The place of a name that `fit` did not see: it is no level."""

_KINDS = {"number", "date", "duration", "text", "name"}
_KIND_OF_DTYPE = {"M": "date", "m": "duration"}


class Column(NamedTuple):
    """What `fit` learned of one column.

    Attributes:
      name: as text.
      kind: `"number"`, `"date"`, `"duration"`, `"order"`, `"name"`; `"empty"` if all is missing.
      levels: what the places of an order or of names stand for.
      text: whether numbers or dates were read from text.
    """

    name: str
    kind: str
    levels: tuple[Any, ...] = ()
    text: bool = False


def as_places(described: Column) -> Column:
    """How a column is read from an array of numbers: names and dates are numbers there."""
    kind, levels = described.kind, described.levels
    if kind == "empty" or (levels and all(isinstance(each, int | float) for each in levels)):
        return described
    if kind == "name" or kind == "order":
        return described._replace(levels=tuple(range(len(levels))))
    return described._replace(kind="number")


def describe(name: str, column: Any, *, named: bool = False) -> Column:
    """What a column is.

    Args:
      name: for messages.
      column: of a frame, or values `[N]`.
      named: read it as names, whatever it holds.

    Raises:
      TypeError: for cells that are no values, such as lists; it names the column.
      ValueError: for cells of more than one kind, likewise.
    """
    values, order = cells_of(column), order_of(column)
    if order is not None and not named:
        return Column(name, "order", order)
    named = named or is_category(column)
    if values.dtype.kind in "biuf" or (values.dtype.kind in "mM" and not named):
        known = values[~_missing(values)]
        if not len(known):
            return Column(name, "empty")
        if named:
            return Column(name, "name", tuple(map(level_of, np.unique(known).tolist())))
        return Column(name, _KIND_OF_DTYPE.get(values.dtype.kind, "number"))
    known = [value for value in values if not is_missing(value)]
    kinds = {kind_of(value) for value in known}
    if strange := kinds - _KINDS:  # in the words that scikit-learn's checks look for
        raise TypeError(
            f"{name} has cells of type {min(strange)}: each argument must be a string, a number, a "
            "date or a length of time."
        )
    if not kinds:
        return Column(name, "empty")
    if named or kinds == {"name"}:
        return Column(name, "name", _levels(known))
    return _of_kinds(name, known, kinds)


def _of_kinds(name: str, known: list[Any], kinds: set[str]) -> Column:
    """What a column is whose cells say so one by one; text may say what the others are."""
    others = kinds - {"text"}
    if len(others) > 1:
        raise ValueError(f"{name} has cells of several kinds: {', '.join(sorted(kinds))}.")
    texts = [value for value in known if kind_of(value) == "text"]
    if not texts:
        return Column(name, others.pop())
    for kind in sorted((others or {"number", "date"}) & {"number", "date"}, reverse=True):
        numbers = [parse(each, kind) for each in texts]
        if None not in numbers and (others or any(each == each for each in numbers)):
            return Column(name, kind, text=True)
    if others:
        raise ValueError(
            f"{name} has text beside cells of another kind ({others.pop()}): "
            f"{min(map(text_of, texts))!r:.40}."
        )
    return Column(name, "name", _levels(known))


def read(described: Column, column: Any) -> np.ndarray:
    """A column as float64 `[N]`: NaN where missing, places of `levels` for names.

    Raises:
      ValueError: if it is of another kind than it was in `fit`, or infinite.
    """
    name, kind = described.name, described.kind
    values = cells_of(column)
    if kind == "empty":  # nothing is known of what its values mean
        return np.full(len(values), np.nan)
    if kind in ("name", "order"):
        return _places(described, values)
    result = plain_numbers(values)
    if result is None or _KIND_OF_DTYPE.get(values.dtype.kind, "number") != kind:
        # A column without a value has the dtype that its maker likes.
        result = np.array([_number(described, value) for value in values], np.float64)
    if len(result) and np.abs(result).max(initial=0.0, where=result == result) > LARGEST:
        raise ValueError(f"{name} has infinity or a value too large (beyond {LARGEST:g}).")
    return result


def _number(described: Column, value: Any) -> float:
    name, kind, _, was_text = described
    if is_missing(value):
        return float("nan")
    found = kind_of(value)
    if found == "text" and kind in ("number", "date"):
        number = parse(value, kind)
        if number is not None:
            return number
        if was_text:  # as a name that `fit` did not see
            return float("nan")
    if found != kind:
        raise ValueError(f"{name} was a {kind} in fit, and now has a {found}: {value!r:.40}.")
    return number_of(value)


def _places(described: Column, values: np.ndarray) -> np.ndarray:
    """Where cells stand among the levels."""
    unseen = UNSEEN if described.kind == "name" else np.nan
    place = {level: float(index) for index, level in enumerate(described.levels)}
    kinds = {kind_of(level) for level in described.levels}
    kinds |= {"text", "name", "date"} if "text" in kinds else {"duration"}
    # Numbers repeat: each different one is looked up once.
    different, which = values, np.arange(len(values))
    if values.dtype.kind in "biuf":
        different, which = np.unique(values, return_inverse=True)
    result = np.full(len(different), np.nan)
    for index, value in enumerate(different):
        if is_missing(value):
            continue
        if (found := kind_of(value)) not in kinds:
            raise ValueError(
                f"{described.name} had names in fit, and now has a {found}: {value!r:.40}."
            )
        result[index] = place.get(level_of(value), unseen)
    return result[which]


def _levels(known: Sequence[Any]) -> tuple[Any, ...]:
    """The different names, sorted."""
    levels = {level_of(value) for value in known}
    try:
        return tuple(sorted(levels))
    except TypeError:
        return tuple(sorted(levels, key=lambda level: (type(level).__name__, str(level))))


def _missing(values: np.ndarray) -> np.ndarray:
    return values != values if values.dtype.kind in "fMm" else np.zeros(len(values), bool)
