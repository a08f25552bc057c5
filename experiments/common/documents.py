"""What experiments write: JSON that every reader takes, and numbers as text.

JSON has no NaN and no infinity. A number that is one of these is no number: null in a file, "-" in
a table, NaN again once it is read to be drawn.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tabulate import tabulate


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file aside, then rename it: it is whole or not there.

    Raises:
      OSError: if it cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with _refusing_to_write(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def _refusing_to_write(path: Path) -> Iterator[None]:
    """Say in a sentence what could not be written."""
    try:
        yield
    except OSError as error:
        said = error.strerror or error
        raise OSError(
            error.errno,
            f"{path} cannot be written ({said}); what it held before is whole. "
            "Mend that, or name another folder",
        ) from error


def report(document: Any, text: str, *, path: Path, as_json: bool) -> None:
    """Write the results of an experiment, and print them: as text, or as the same JSON."""
    write_json(path, document)
    print(to_json(document, indent=1) if as_json else text, flush=True)


def to_json(document: Any, *, indent: int | None = None) -> str:
    """A document as JSON: arrays as lists, paths as text, null for NaN and infinities."""
    return json.dumps(_plain(document), indent=indent, allow_nan=False)


def write_json(path: Path, document: Any) -> None:
    """Write a document to a file, which is whole or not there; raises OSError if it cannot be."""
    write_atomically(path, to_json(document, indent=1).encode())


def append_json(path: Path, record: Any) -> None:
    """Add a record to a file of one a line; raises OSError if that cannot be done."""
    with _refusing_to_write(path), path.open("a") as file:
        file.write("\n" * _is_cut_off(path) + to_json(record) + "\n")


def measured_once(path: Path, key: Any, measure: Callable[[], Any]) -> Any:
    """What `measure` returns, or returned when a record of the file was made for the same key."""
    key = json.loads(to_json(key))
    for record in read_records(path) if path.exists() else ():
        if record["key"] == key:
            return record["found"]
    found = measure()
    append_json(path, {"key": key, "found": found})
    return found


def _is_cut_off(path: Path) -> bool:
    """Whether the last line of a file has no end."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def read_json(path: Path) -> Any:
    """The document of a file.

    Raises:
      ValueError: if it is no JSON.
      OSError: if it cannot be read.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"{path} is no JSON ({error}); name a file that an experiment wrote."
        ) from error


def read_records(path: Path) -> Iterator[Any]:
    """The records of a file of one a line; a last line that was cut off is passed over."""
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def numbers(values: Iterable[float | None]) -> np.ndarray:
    """Numbers as they were read, `[N]`: NaN where there is none."""
    return np.asarray(list(values), float)


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows of the same columns as text, the first column to the left."""
    if not rows:
        return ""
    align = ("left", *["right"] * (len(rows[0]) - 1))
    return tabulate(rows, headers="keys", tablefmt="plain", disable_numparse=True, colalign=align)


def plus_minus(mean: float, ci95: float, *, scale: float = 100.0, digits: int = 2) -> str:
    """A mean and the half of its interval as text, in per cent by default; "-" for no number."""
    return f"{as_percent(mean, scale, digits)} ± {as_percent(ci95, scale, digits)}"


def as_percent(value: float, scale: float = 100.0, digits: int = 2) -> str:
    """A number as text, in per cent by default; "-" for no number."""
    return f"{scale * value:.{digits}f}" if math.isfinite(value) else "-"


def _plain(value: Any) -> Any:
    """What JSON has names for."""
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return _plain(np.asarray(value).tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, (Path, np.dtype)) else value
