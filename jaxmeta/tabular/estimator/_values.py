"""What the cells of a column say: missing, a number, a date, a length of time or a name.

Needs NumPy and nothing else, because exported models carry a copy of this file.
"""

import datetime
import decimal
import numbers
from typing import Any

import numpy as np

LARGEST = np.float64(1e300)
"""Numbers beyond this are refused, as infinity is: their differences would be infinite."""

_MISSING_TEXT = {"", "?", "na", "n/a", "nan", "nat", "none", "null", "<na>"}
"""What stands for a missing value in a column of text that otherwise holds numbers or dates."""

_EPOCH = np.datetime64("1970-01-01")
_SECOND = np.timedelta64(1, "s")
_UTC = datetime.UTC


def is_missing(value: Any) -> bool:
    """Whether it is None, NaN, NaT, `pandas.NA`, masked, or blank text."""
    if value is None or value is np.ma.masked or type(value).__name__ == "NAType":
        return True
    if isinstance(value, str | bytes):
        return not value.strip()
    if isinstance(value, decimal.Decimal):  # a signalling NaN cannot be compared
        return value.is_nan()
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # lists, which `kind_of` refuses
        return False


def kind_of(value: Any) -> str:
    """`"number"`, `"date"`, `"duration"`, `"text"`, `"name"`; what is none of them by its type."""
    if isinstance(value, str | bytes):
        return "text"
    if isinstance(value, datetime.date | np.datetime64) or hasattr(value, "to_timestamp"):
        return "date"
    # NumPy takes a span of time for an integer.
    if isinstance(value, datetime.timedelta | datetime.time | np.timedelta64):
        return "duration"
    if isinstance(value, numbers.Real | decimal.Decimal | np.bool_):
        return "number"
    if isinstance(value, complex | np.ndarray | list | tuple | dict | set):
        return type(value).__name__
    try:
        hash(value)
    except TypeError:
        return type(value).__name__
    return "name"


def number_of(value: Any) -> float:
    """A number as it is, a date as seconds since 1970 (UTC), a length of time as seconds."""
    if hasattr(value, "to_timestamp"):  # a period of pandas: where it begins
        value = value.to_timestamp()
    if isinstance(value, np.datetime64):
        return float((value - _EPOCH) / _SECOND)
    if isinstance(value, np.timedelta64):
        return float(value / _SECOND)
    if isinstance(value, datetime.datetime):
        return (value if value.tzinfo else value.replace(tzinfo=_UTC)).timestamp()
    if isinstance(value, datetime.date):
        return number_of(datetime.datetime(value.year, value.month, value.day))
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, datetime.time):
        return 3600.0 * value.hour + 60.0 * value.minute + value.second + 1e-6 * value.microsecond
    try:
        return float(value)
    except OverflowError:  # an integer of more than 308 digits
        return float("inf")


def parse(text: str, kind: str) -> float | None:
    """The number that text says, or the date in ISO 8601; NaN if missing, None if neither."""
    text = text_of(text).strip()
    if text.lower() in _MISSING_TEXT:
        return float("nan")
    try:
        if kind == "date":
            return number_of(datetime.datetime.fromisoformat(text)) if "-" in text else None
        return None if "_" in text else float(text)
    except ValueError:
        return None


def text_of(value: Any) -> str:
    """Text as plain `str`: that of bytes, and the text that a member of an enumeration is."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str.__str__(value)


def level_of(value: Any) -> str | float:
    """What a name is known by: text, or a number."""
    kind = kind_of(value)
    if kind == "text":
        return text_of(value)
    if kind == "date":
        moment = np.datetime64(round(1e6 * number_of(value)), "us")
        return str(moment).removesuffix(".000000").removesuffix("T00:00:00")
    if kind == "duration":
        return number_of(value)
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if kind == "number":
        return int(value) if value == int(value) else float(value)
    return str(value)


def plain_numbers(values: np.ndarray) -> np.ndarray | None:
    """`number_of` all values where their dtype tells how; None where each has to be looked at."""
    kind = values.dtype.kind
    if kind in "biuf":
        return values.astype(np.float64)
    if kind == "M":
        return (values - _EPOCH) / _SECOND
    if kind == "m" and np.datetime_data(values.dtype)[0] not in ("Y", "M", "generic"):
        return values / _SECOND
    return None
