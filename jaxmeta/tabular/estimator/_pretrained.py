"""Running the pre-trained meta-net on NumPy tables, without JAX."""

import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from jaxmeta._numpy_program import load_program
from jaxmeta.tabular._arrays import (
    FEATURES,
    MOST_COLUMNS,
    ROWS,
    Dictionary,
    EmittedTable,
    pad_columns,
    pad_rows,
)


def emit(x: np.ndarray, y: np.ndarray, categorical: np.ndarray, num_terms: int) -> EmittedTable:
    """`w` of a table `x [S, D]`, NaN where missing, with classes `y [S]`, all of them present.

    S, D and C are at most `MOST_ROWS`, `MOST_COLUMNS` and `MOST_CLASSES`; 0 terms are all of them.
    """
    rows = next(size for size in ROWS if size >= len(y))
    table = pad_rows(x, y, rows, MOST_COLUMNS)
    codes = pad_columns(categorical, MOST_COLUMNS)
    with _one_thread():
        kernel, bias, present, *dictionary, contrasts = _adapt(rows)(
            *table, codes, np.asarray(num_terms, np.int32)
        )
    return EmittedTable(kernel, bias, present, Dictionary(*dictionary), contrasts)


@functools.cache
def _adapt(rows: int) -> Callable[..., Any]:
    """The shipped meta-net's `adapt` for tables of so many rows."""
    weights = resources.files("jaxmeta.tabular") / "weights" / "tabular.npz"
    with weights.open("rb") as file, np.load(file) as arrays:
        if arrays["features"] != FEATURES:
            raise ValueError(
                f"{weights} is of version {arrays['features']} of the features of a table, this "
                f"jaxmeta computes version {FEATURES}: write it again (meta_net.write_programs)."
            )
        theta = [arrays[name] for name in sorted(arrays) if name.startswith("theta_")]
        return load_program(arrays[f"adapt_{rows}"].tobytes().decode(), *theta)


# Threads of a BLAS wait for each other by spinning. Beside other work that makes a fit of
# milliseconds one of seconds, and these matrices are small.
_lock, _inside, _limits = threading.Lock(), 0, None


@contextmanager
def _one_thread() -> Iterator[None]:
    """BLAS keeps to one thread, until the last of the threads of this process that asked is out."""
    global _inside, _limits
    with _lock:
        if not _inside:
            _limits = _blas().limit(limits=1, user_api="blas")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _limits.restore_original_limits()


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _after_fork() -> None:
    """A thread that held the lock, or was inside, is not in the child."""
    global _lock, _inside
    _lock, _inside = threading.Lock(), 0


if hasattr(os, "register_at_fork"):  # Windows does not fork.
    os.register_at_fork(after_in_child=_after_fork)
