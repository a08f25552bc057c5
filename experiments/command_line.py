"""What a command line may say, and how an experiment ends when it cannot go on: in a sentence."""

import argparse
import functools
import math
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

Main = Callable[[list[str] | None], int]

LEAST = {"steps": 0, "process_id": 0, "seed": -(2**63)}
"""The least of a number by the name of its flag; of others 1 if they are whole, else 0."""
MOST = {"seed": 2**63 - 3, "average": 1}
"""The most, likewise; an experiment takes the seeds next to its own as well."""
SHARES = ("density", "share")
"""Numbers above 0, and of 1 at most."""


class Diverged(ValueError):
    """A run whose numbers are no numbers: there is nothing to judge."""


def parse(
    parser: argparse.ArgumentParser,
    arguments: list[str] | None,
    *,
    least: Mapping[str, int] = MappingProxyType({}),
) -> argparse.Namespace:
    """The command line, every number of which can be meant.

    Args:
      parser: of the experiment.
      arguments: by default those of the process.
      least: of this experiment's numbers, where it differs from `LEAST`.

    Raises:
      ValueError: for a number that is NaN, infinite or out of range.
    """
    options = parser.parse_args(arguments)
    for name, given in vars(options).items():
        for value in given if isinstance(given, (list, tuple)) else (given,):
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                _check(name, value, LEAST | dict(least))
    return options


def _check(name: str, value: float, least: Mapping[str, int]) -> None:
    """Refuse a number that its flag cannot mean."""
    whole = isinstance(value, int)
    low, high = least.get(name, int(whole)), MOST.get(name, 2**31 - 1 if whole else math.inf)
    needs = f"a {'whole' if whole else 'finite'} number of at least {low}"
    if name in SHARES:
        low, high, needs = math.nextafter(0.0, 1.0), 1.0, "a share above 0 and of 1 at most"
    elif value > high:
        needs += f" and at most {high}"
    if not (math.isfinite(value) and low <= value <= high):
        flag = name.replace("_", "-")
        raise ValueError(f"--{flag} needs {needs}, got {name}={value}.")


def check_finite(theta: Any, whose: str) -> None:
    """Refuse meta-parameters that nothing can be judged by.

    Args:
      theta: a pytree of arrays.
      whose: the beginning of the sentence, such as `"matching after 100 outer steps"`.

    Raises:
      Diverged: if there is a NaN or an infinity in it.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(theta):
        if not np.isfinite(np.asarray(leaf)).all():
            where = jax.tree_util.keystr(path, simple=True, separator="/") or "all of them"
            raise Diverged(
                f"{whose} has meta-parameters that are NaN or infinite ({where}), so that there is "
                "nothing to judge: lower the learning rate or the inner rate, or look for such "
                "values in the data."
            )


def in_a_sentence(main: Main) -> Callable[..., int]:
    """`main` with its refusals printed as one sentence.

    The exit code is 1 for a run that diverged, 2 for what cannot be done, 130 for an interrupt.
    """

    @functools.wraps(main)
    def run(arguments: list[str] | None = None) -> int:
        try:
            return main(arguments)
        except (ValueError, OSError, ImportError, MemoryError) as error:
            sys.stderr.write(f"error: {error}\n")
            return 1 if isinstance(error, Diverged) else 2
        except KeyboardInterrupt:
            return 130
        except jax.errors.JaxRuntimeError as error:
            sys.stderr.write(f"error: {_of_the_devices(error)}\n")
            return 2

    return run


def _of_the_devices(error: jax.errors.JaxRuntimeError) -> str:
    """What the devices' own error comes to; raises it again where nobody can know."""
    first = str(error).splitlines()[0]
    if "RESOURCE_EXHAUSTED" in first:
        return f"The memory does not suffice ({first}); ask for fewer or smaller tasks at once."
    if jax.process_count() == 1:
        raise error
    return (
        f"{jax.process_count()} processes share each step, and one of them is lost or late "
        f"({first}); start all again with --resume."
    )
