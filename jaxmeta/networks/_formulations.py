"""Which formulation of a convolution is the fastest: by a table, or measured for the shape at hand.

`formulations.json` beside this file says it by platform and by the number of channels of x. It is
what `experiments.accelerator` measured (experiments/timing/RESULTS.md); "any" is a guess.
"""

import functools
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta._files import write_atomically
from jaxmeta.networks._conv_lowerings import Formulation
from jaxmeta.types import Array

Operation = Literal["conv", "kernel_grad"]
_CALLS, _SECONDS = 20, 0.2  # of each formulation that is measured, at the most


@functools.cache
def table() -> dict[str, dict[Operation, list[dict[str, Any]]]]:
    """`formulations.json`: rules by platform and operation, of which the first that fits holds."""
    return json.loads((resources.files("jaxmeta.networks") / "formulations.json").read_text())


def choose(
    asked: Formulation | Literal["auto"] | None,
    operation: Operation,
    compute: Callable[[Formulation, Array, Array], Array],
    first: Array,
    second: Array,
    platform: str | None,
    settings: Any,
) -> Formulation:
    """The formulation that was asked for, that of the table, or for "auto" the measured one.

    Args:
      asked: by the user.
      operation: its name.
      compute: it, by a formulation.
      first: of its operands; x.
      second: of its operands.
      platform: that it is compiled for; None for one that the table does not have.
      settings: what else it depends on, for the file.
    """
    # What is compiled for another platform cannot be measured here.
    if asked == "auto" and platform == _rules_of_default_device():
        return by_measuring(operation, compute, map(jax.typeof, (first, second)), settings)
    if asked in (None, "auto"):
        return by_table(platform, operation, first.shape[-1])
    return asked


def _rules_of_default_device() -> str | None:
    backend = jax.default_backend()
    backend = "gpu" if backend in ("cuda", "rocm") else backend
    return backend if backend in table() else None


def by_table(platform: str | None, operation: Operation, channels: int) -> Formulation:
    """The fastest where x has so many channels; None is a platform that the table does not have."""
    for rule in table()[platform or "any"][operation]:
        if rule["channels_below"] is None or channels < rule["channels_below"]:
            return rule["formulation"]
    raise ValueError(f"formulations.json has no rule for {operation} of {channels} channels.")


_found: dict[str, Formulation] = {}
_lock = threading.Lock()


def by_measuring(
    operation: Operation, compute: Callable, operands: Iterable[Any], settings: Any
) -> Formulation:
    """The fastest on the default device, measured once for these operands, and kept in a file.

    The file is `formulations.json` in the folder JAXMETA_CACHE, by default `jaxmeta` in the
    user's cache; where it cannot be written, the next process measures again.
    """
    operands = list(operands)
    shapes = [f"{each.dtype}{list(each.shape)}" for each in operands]
    device = jax.devices()[0].device_kind
    key = f"{device}, jax {jax.__version__}: {operation} {' '.join(shapes)} {settings}"
    with _lock:
        if key not in _found:
            _found.update(_read())
        if key not in _found:
            _found[key] = _in_a_thread(functools.partial(_fastest, compute, operands))
            _write()
        return _found[key]


def _fastest(compute: Callable, operands: Sequence[Any]) -> Formulation:
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(rng.normal(size=each.shape), each.dtype) for each in operands]
    least: dict[Formulation, float] = {}
    for formulation in get_args(Formulation):
        call = jax.jit(functools.partial(compute, formulation))
        jax.block_until_ready(call(*arrays))
        times: list[float] = []
        while len(times) < 3 or (len(times) < _CALLS and sum(times) < _SECONDS):
            start = time.perf_counter()
            jax.block_until_ready(call(*arrays))
            times.append(time.perf_counter() - start)
        least[formulation] = min(times)
    return min(least, key=least.__getitem__)


def _in_a_thread(function: Callable[[], Formulation]) -> Formulation:
    """Outside of the program that is being compiled in this one."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]


def _file() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("JAXMETA_CACHE") or Path(home) / "jaxmeta") / "formulations.json"


def _read() -> dict[str, Formulation]:
    try:
        found = json.loads(_file().read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: each for key, each in found.items() if each in get_args(Formulation)}


def _write() -> None:
    try:
        write_atomically(_file(), json.dumps(_read() | _found, indent=1).encode())
    except OSError:
        pass
