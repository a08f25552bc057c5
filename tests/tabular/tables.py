"""Tables of every dtype and missing mark, drawn at random, of pandas, polars, pyarrow and lists."""

import datetime
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import pandas
import polars
import pyarrow

LIBRARIES = ("pandas", "polars", "pyarrow", "lists")
START = datetime.datetime(2023, 1, 1)


class Kind(NamedTuple):
    """How cells of a kind are drawn, and the dtypes that hold them; None for what is inferred."""

    draw: object
    pandas: tuple = ()
    polars: tuple = ()
    pyarrow: tuple = ()
    lists: bool = True
    missing: bool = True


def _names(rng):
    return str(rng.choice(["red", "green", "blue", "a line\nbreak", "$x_1$", "ÄÖ " + "z" * 90]))


GRADES = ["low", "middle", "high"]
ORDERED = pandas.CategoricalDtype(GRADES, ordered=True)

KINDS = {
    "float": Kind(
        lambda rng: float(rng.normal()),
        ("float64", "float32", "Float64", "double[pyarrow]", "object", "Sparse[float64]"),
        (polars.Float64, polars.Float32),
        (pyarrow.float64(), pyarrow.float32()),
    ),
    "integer": Kind(
        lambda rng: int(rng.integers(-9, 9)),
        ("Int64", "Int8", "int64[pyarrow]", "object", "float16"),
        (polars.Int64, polars.Int8),
        (pyarrow.int64(), pyarrow.int8()),
    ),
    "whole": Kind(
        lambda rng: int(rng.integers(0, 9)), ("int64", "uint8"), (polars.UInt8,), missing=False
    ),
    "id": Kind(
        lambda rng: int(rng.integers(2**62, 2**63)),
        ("UInt64", "Int64", "object"),
        (polars.UInt64,),
        (pyarrow.uint64(),),
    ),
    "extreme": Kind(
        lambda rng: float(10 ** rng.uniform(-290, 290)), ("float64",), (polars.Float64,)
    ),
    "tiny": Kind(lambda rng: float(1e-45 * rng.normal()), ("float64",), (polars.Float64,)),
    "boolean": Kind(
        lambda rng: bool(rng.random() < 0.5),
        ("boolean", "object", "bool[pyarrow]", "category"),
        (polars.Boolean,),
        (pyarrow.bool_(),),
    ),
    "decimal": Kind(
        lambda rng: Decimal(f"{rng.normal():.3f}"),
        ("object", pandas.ArrowDtype(pyarrow.decimal128(12, 3))),
        (polars.Decimal(12, 3),),
        (pyarrow.decimal128(12, 3),),
    ),
    "number as text": Kind(
        lambda rng: f"{rng.normal():.2f}",
        ("object", "string", "str", "string[pyarrow]"),
        (polars.String,),
        (pyarrow.string(), pyarrow.large_string()),
    ),
    "text": Kind(
        _names,
        ("object", "string", "str", "string[pyarrow]", "category"),
        (polars.String, polars.Categorical),
        (pyarrow.string(), pyarrow.dictionary(pyarrow.int8(), pyarrow.string())),
    ),
    "grade": Kind(
        lambda rng: str(rng.choice(GRADES)),
        (ORDERED,),
        (polars.Enum(GRADES),),
        (pyarrow.dictionary(pyarrow.int8(), pyarrow.string(), ordered=True),),
        lists=False,
    ),
    "code": Kind(lambda rng: int(rng.integers(0, 5)), ("category",), lists=False),
    "date": Kind(
        lambda rng: START + datetime.timedelta(seconds=float(rng.uniform(0, 1e8))),
        ("datetime64[ns]", "datetime64[s]", "object", "datetime64[ns, UTC]"),
        (polars.Datetime, polars.Datetime("ms", "Europe/Berlin")),
        (pyarrow.timestamp("us"), pyarrow.timestamp("ns", "UTC")),
    ),
    "day": Kind(
        lambda rng: (START + datetime.timedelta(days=float(rng.integers(0, 900)))).date(),
        ("object", "period[D]", "date32[pyarrow]"),
        (polars.Date,),
        (pyarrow.date32(), pyarrow.date64()),
    ),
    "date as text": Kind(
        lambda rng: f"2024-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}",
        ("object", "string"),
        (polars.String,),
        (pyarrow.string(),),
    ),
    "duration": Kind(
        lambda rng: datetime.timedelta(seconds=float(rng.integers(0, 9999))),
        ("timedelta64[ns]", "object", "duration[us][pyarrow]"),
        (polars.Duration,),
        (pyarrow.duration("ms"),),
    ),
    "time": Kind(
        lambda rng: datetime.time(int(rng.integers(0, 24)), int(rng.integers(0, 60))),
        ("object",),
        (polars.Time,),
        (pyarrow.time64("us"),),
    ),
    "interval": Kind(
        lambda rng: pandas.Interval(0, int(rng.integers(1, 4))), ("object",), lists=False
    ),
    "nothing": Kind(lambda rng: None, ("float64", "object"), (polars.Null,), (pyarrow.null(),)),
}
"""What is read."""

REFUSED = {
    "lists": Kind(
        lambda rng: [1.0, 2.0], ("object",), (polars.List(polars.Float64),), missing=False
    ),
    "records": Kind(lambda rng: {"a": 1}, ("object",), (polars.Struct({"a": polars.Int64}),)),
    "infinite": Kind(
        lambda rng: float("inf"), ("float64", "object"), (polars.Float64,), (pyarrow.float64(),)
    ),
    "complex": Kind(lambda rng: complex(1, rng.normal()), ("complex128", "object")),
    "mixture": Kind(lambda rng: [7, "p"][int(rng.random() < 0.5)], ("object",)),
    "times": Kind(lambda rng: [START, datetime.timedelta(1)][int(rng.random() < 0.5)], ("object",)),
}
"""What is refused by the name of its column."""

MISSING = (None, float("nan"), pandas.NA, pandas.NaT)


class Drawn(NamedTuple):
    """Cells by column, and the dtype of each: a frame of any of its rows can be made."""

    library: str
    cells: dict[str, list]
    dtypes: dict[str, object]

    def frame(self, rows):
        """Rows as the library has them."""
        cells = {name: [values[row] for row in rows] for name, values in self.cells.items()}
        if self.library == "lists":
            return [list(row) for row in zip(*cells.values(), strict=True)]
        if self.library == "polars":
            return polars.DataFrame(
                [polars.Series(n, v, dtype=self.dtypes[n]) for n, v in cells.items()]
            )
        if self.library == "pyarrow":
            return pyarrow.table({n: _arrow(v, self.dtypes[n]) for n, v in cells.items()})
        return pandas.DataFrame({n: _series(v, self.dtypes[n]) for n, v in cells.items()})


def draw_table(seed, rows, refused=False):
    """A table of one to five columns; with one that is refused as the last, if asked for."""
    rng = np.random.default_rng(seed)
    library = str(rng.choice(LIBRARIES))
    kinds = [name for name, kind in KINDS.items() if _fits(kind, library)]
    chosen = [str(name) for name in rng.choice(kinds, rng.integers(1, 6))]
    if refused:
        chosen.append(str(rng.choice([n for n, kind in REFUSED.items() if _fits(kind, library)])))
    cells, dtypes = {}, {}
    for place, name in enumerate(chosen):
        kind, column = (KINDS | REFUSED)[name], f"{name} {place}"
        holes = kind.missing and rng.random() < 0.5
        values = [kind.draw(rng) for _ in range(rows)]
        options = [None] if library == "lists" else getattr(kind, library)
        dtypes[column] = options[rng.integers(len(options))]
        if holes:
            marks = [None]
            if library == "lists" or str(dtypes[column]) == "object":
                marks = MISSING
            lost = rng.random(rows) < 0.2
            lost[:3] = False
            values = [
                marks[rng.integers(len(marks))] if gone else value
                for value, gone in zip(values, lost, strict=True)
            ]
        cells[column] = values
    return Drawn(library, cells, dtypes)


def _fits(kind, library):
    return kind.lists if library == "lists" else bool(getattr(kind, library))


def _series(values, dtype):
    if str(dtype) == "float16" or str(dtype) == "float64" or str(dtype).startswith("Sparse"):
        values = [float("nan") if value is None else value for value in values]
    if str(dtype) == "datetime64[ns, UTC]":
        return pandas.to_datetime(pandas.Series(values, dtype="datetime64[ns]")).dt.tz_localize(
            "UTC"
        )
    return pandas.Series(values, dtype=dtype)


def _arrow(values, dtype):
    if pyarrow.types.is_dictionary(dtype):
        known = sorted(
            {value for value in values if value is not None}, key=[*GRADES, *values].index
        )
        codes = [None if value is None else known.index(value) for value in values]
        return pyarrow.DictionaryArray.from_arrays(
            pyarrow.array(codes, dtype.index_type), pyarrow.array(known), ordered=dtype.ordered
        )
    return pyarrow.array(values, type=dtype)
