"""A stage: items that are measured one after the other while its time lasts, and kept."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from experiments.common.documents import measured_once, read_records, write_json

Row = dict[str, Any]


class Setting(NamedTuple):
    """What the items of a stage depend on.

    Attributes:
      small: whether the device is a CPU, on which all is a rehearsal at small sizes.
      seed: of everything that is drawn.
      out: the folder of the run.
      seconds: that the whole stage may take.
    """

    small: bool
    seed: int
    out: Path
    seconds: float


class Item(NamedTuple):
    """One row of a stage's table: its name, and what measures it."""

    name: str
    measure: Callable[[], Row]


class Stage(NamedTuple):
    """What it shows, its part of the time, and its items."""

    title: str
    share: float
    items: Callable[[Setting], Iterable[Item]]


class Failed(AssertionError):
    """A check that does not hold; its text says which."""


def run_stage(name: str, stage: Stage, setting: Setting, deadline: float | None) -> Row:
    """Measure what is not yet on file, until the deadline; an item that fails is gone past.

    The first item is always measured, so that every stage is passed through.

    Args:
      name: of the stage and its files.
      stage: its items.
      setting: they depend on it.
      deadline: on the clock of `time.monotonic`; an item that has begun is not stopped. None to
        measure nothing, and say what is on file.

    Returns:
      `rows`, `failures` by item, and how many items were `left_out`.
    """
    file = setting.out / f"{name}.jsonl"
    known = {json.dumps(each["key"]) for each in read_records(file)} if file.exists() else set()
    rows, failures, left_out = [], {}, 0
    for item in _items(stage, setting, failures):
        key = [item.name, setting.seed, setting.small]
        first = not rows and not failures
        in_time = deadline is not None and (first or time.monotonic() <= deadline)
        if json.dumps(key) not in known and not in_time:
            left_out += 1
            continue
        sys.stderr.write(f"  {name}: {item.name}\n")
        try:
            rows.append({"item": item.name} | measured_once(file, key, item.measure))
        except Exception as error:
            failures[item.name] = f"{type(error).__name__}: {str(error)[:500]}"
            sys.stderr.write(f"  {name}: {item.name} FAILED: {failures[item.name]}\n")
    found = {"title": stage.title, "rows": rows, "failures": failures, "left_out": left_out}
    write_json(setting.out / f"{name}.json", found)
    return found


def _items(stage: Stage, setting: Setting, failures: dict[str, str]) -> Iterator[Item]:
    """The items of a stage; what fails between them is told like an item."""
    try:
        yield from stage.items(setting)
    except Exception as error:
        failures["the stage itself"] = f"{type(error).__name__}: {str(error)[:500]}"
