"""What columns are read as: numbers by stated rules, whatever holds them, or a refusal by name."""

import datetime
import enum
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas
import polars
import pyarrow
import pytest

from jaxmeta.tabular.estimator._columns import UNSEEN, describe, read

NAN = float("nan")
ORDERED = pandas.CategoricalDtype(["low", "high", "top"], ordered=True)
ENUM = polars.Enum(ORDERED.categories)
ARROW_NAMES = pyarrow.dictionary(pyarrow.int8(), pyarrow.string())
DAY = 86_400.0
DAYS = [datetime.date(1970, 1, 2), None, datetime.date(1970, 1, 4)]
TIMES = [datetime.time(1), None, datetime.time(0, 0, 1, 500_000)]
HOURS = [datetime.timedelta(hours=1), None, datetime.timedelta(hours=3)]
NAMES = ["b", None, "a"]


class Size(enum.StrEnum):
    SMALL = "s"
    LARGE = "l"


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


READ = [
    ("number", [1.0, NAN, 3.0], np.array([1.0, NAN, 3.0], np.float32)),
    ("number", [1.0, NAN, 3.0], pandas.Series([1, None, 3], dtype="Int64")),
    ("number", [1.0, NAN, 3.0], pandas.Series([1, None, 3], dtype="int64[pyarrow]")),
    ("number", [1.0, NAN, 3.0], np.array([1, pandas.NA, 3.0], object)),
    ("number", [1.0, NAN, 3.0], np.array([Decimal(1), Decimal("sNaN"), Fraction(3)], object)),
    ("number", [1.0, NAN, 3.0], np.array(["1", " n/a ", "3e0"])),
    ("number", [1.0, NAN, 3.0], np.array([b"1", b"", b"3"])),
    ("number", [1.0, NAN, 3.0], np.array(["1", pandas.NaT, 3], object)),
    ("number", [1.0, NAN, 3.0], np.ma.masked_equal([1.0, 2.0, 3.0], 2.0)),
    ("number", [1.0, NAN, 3.0], polars.Series(["1", None, "3.0"])),
    ("number", [1.0, NAN, 3.0], pyarrow.chunked_array([[1], [None, 3]])),
    ("number", [1.0, NAN, 0.0], pandas.Series([True, None, False], dtype="boolean")),
    ("number", [1.0, NAN, 0.0], polars.Series([True, None, False])),
    ("number", [0.0, NAN, 3.0], pandas.Series([0, NAN, 3], dtype="Sparse[float64]")),
    ("date", [DAY, NAN, 3 * DAY], np.array(DAYS, object)),
    ("date", [DAY, NAN, 3 * DAY], np.array(DAYS, "datetime64[D]")),
    ("date", [DAY, NAN, 3 * DAY], np.ma.array(np.array(DAYS, "M8[ns]"), mask=[0, 1, 0])),
    ("date", [DAY, NAN, 3 * DAY], pandas.Series(DAYS, dtype="datetime64[ns]")),
    ("date", [DAY, NAN, 3 * DAY], pandas.Series(DAYS, dtype="datetime64[s]").dt.tz_localize("UTC")),
    ("date", [DAY, NAN, 3 * DAY], pandas.Series(DAYS, dtype="period[D]")),
    ("date", [DAY, NAN, 3 * DAY], pandas.Series(DAYS, dtype="date32[pyarrow]")),
    ("date", [DAY, NAN, 3 * DAY], polars.Series(DAYS)),
    ("date", [DAY, NAN, 3 * DAY], pyarrow.array(DAYS)),
    ("date", [DAY, NAN, 3 * DAY], np.array(["1970-01-02", "", "1970-01-04T02:00+02:00"])),
    ("duration", [3600.0, NAN, 10800.0], np.array(HOURS, object)),
    ("duration", [3600.0, NAN, 10800.0], pandas.Series(HOURS, dtype="timedelta64[ns]")),
    ("duration", [3600.0, NAN, 10800.0], polars.Series(HOURS)),
    ("duration", [3600.0, NAN, 10800.0], pyarrow.array(HOURS)),
    ("duration", [3600.0, NAN, 1.5], polars.Series(TIMES)),
    ("order", [2.0, NAN, 0.0], pandas.Series(["top", None, "low"], dtype=ORDERED)),
    ("order", [2.0, NAN, 0.0], polars.Series(["top", None, "low"], dtype=ENUM)),
    ("order", [2.0, NAN, 0.0], pyarrow.DictionaryArray.from_arrays(
        pyarrow.array([2, None, 0]), ["low", "high", "top"], ordered=True)),
    ("name", [1.0, NAN, 0.0], np.array(NAMES, object)),
    ("name", [1.0, NAN, 0.0], np.array(["b", " ", "a"])),
    ("name", [1.0, NAN, 0.0], pandas.Series(NAMES, dtype="string")),
    ("name", [1.0, NAN, 0.0], pandas.Series(NAMES, dtype="category")),
    ("name", [1.0, NAN, 0.0], pandas.Series(NAMES, dtype=pandas.ArrowDtype(ARROW_NAMES))),
    ("name", [1.0, NAN, 0.0], polars.Series(NAMES, dtype=polars.Categorical)),
    ("name", [1.0, NAN, 0.0], pyarrow.array(NAMES).dictionary_encode()),
    ("name", [1.0, NAN, 0.0], pyarrow.chunked_array([pyarrow.array(NAMES).dictionary_encode()])),
    ("name", [1.0, NAN, 0.0], pandas.Series([20, None, 10], dtype="category")),
    ("name", [1.0, NAN, 0.0], pandas.Series([True, None, False], dtype="category")),
    ("name", [1.0, NAN, 0.0], np.array([Size.SMALL, None, Size.LARGE], object)),
    ("name", [1.0, NAN, 0.0], np.array([Colour.RED, None, Colour.BLUE], object)),
    ("name", [1.0, NAN, 0.0], pandas.Series(DAYS[::-1], dtype="datetime64[ns]").astype("category")),
    ("empty", [NAN, NAN], np.array([None, pandas.NA], object)),
    ("empty", [NAN, NAN], pandas.Series([None, None], dtype="category")),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "numbers", "column"), READ)
def test_a_column_is_read_by_its_rule(kind, numbers, column):
    described = describe("a", column)
    assert described.kind == kind
    np.testing.assert_array_equal(read(described, column), numbers)


BESIDE = "a has text beside cells of another kind"
REFUSED = [
    (TypeError, "a has cells of type list", np.array([[1], [1, 2], None], object)),
    (TypeError, "a has cells of type dict", pyarrow.array([{"b": 1}, None])),
    (TypeError, "a has cells of type ndarray", polars.Series([[1]], dtype=polars.Array(int, 1))),
    (TypeError, "a has cells of type complex", np.array([1j, 2.0])),
    (ValueError, f"{BESIDE} .number.: 'p'", np.array([7, "p"], object)),
    (ValueError, f"{BESIDE} .date.: '7'", np.array([DAYS[0], "7"], object)),
    (ValueError, "a has cells of several kinds: date, number", np.array([7, DAYS[0]], object)),
    (ValueError, "a has infinity", np.array([7.0, np.inf])),
    (ValueError, "a has infinity", np.array([7, 10**400], object)),
    (ValueError, "a has infinity", np.array(["7", "-inf"])),
]  # fmt: skip


@pytest.mark.parametrize(("error", "said", "column"), REFUSED)
def test_what_no_rule_reads_is_refused_by_name(error, said, column):
    with pytest.raises(error, match=said):
        read(describe("a", column), column)


NUMBERS, TEXT = np.array([1.0, 2.0]), np.array(["p", "q"])
CHANGED = [
    ("a was a number in fit, and now has a text: 'p'", NUMBERS, TEXT.astype(object)),
    ("a was a number in fit, and now has a date", NUMBERS, np.array([1], "datetime64[ns]")),
    ("a was a date in fit, and now has a number", np.array(DAYS, object), NUMBERS),
    ("a was a duration in fit, and now has a date", polars.Series(HOURS), polars.Series(DAYS)),
    ("a had names in fit, and now has a number", TEXT, NUMBERS),
    ("a had names in fit, and now has a text", pandas.Series([1, 2], dtype="category"), TEXT),
]  # fmt: skip


@pytest.mark.parametrize(("said", "before", "after"), CHANGED)
def test_another_kind_than_fit_had_is_refused_by_name(said, before, after):
    with pytest.raises(ValueError, match=said):
        read(describe("a", before), after)


LIKE = [
    ([1.0, NAN], np.array(["1", "2"]), np.array(["1", "rather not"])),
    ([1.0], NUMBERS, np.array(["1.0"])),
    ([UNSEEN, NAN, 0.0], TEXT, np.array(["z", None, "p"], object)),
    ([NAN, 0.0], pandas.Series(["low"], dtype=ORDERED), np.array(["lowest", "low"], object)),
    ([1.0, UNSEEN], pandas.Series([1, 2], dtype="category"), np.array([2.0, 3.0])),
    ([NAN, NAN], np.array([None, None], object), TEXT),
    ([NAN, NAN], np.array(DAYS, object), np.array([NAN, NAN])),
    ([DAY], np.array(DAYS, object), np.array(["1970-01-02"])),
]  # fmt: skip


@pytest.mark.parametrize(("numbers", "before", "after"), LIKE)
def test_what_says_the_same_in_other_words_is_read(numbers, before, after):
    np.testing.assert_array_equal(read(describe("a", before), after), numbers)


def test_a_column_can_be_said_to_be_of_names():
    for column in (np.array([3.0, 1.0, NAN]), np.array(["3", "1", None], object)):
        described = describe("a", column, named=True)
        assert described.kind == "name"
        np.testing.assert_array_equal(read(described, column), [1.0, 0.0, NAN])
