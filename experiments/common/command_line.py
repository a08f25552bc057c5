"""Command lines declared as frozen dataclasses, and runs that end in a sentence when they fail.

A field is a flag of the same name; its type says how it is parsed, and a field that is itself a
dataclass is a group of flags. The parser is argparse: tyro reads the same declarations, but has no
`--rotations` beside `--no-rotations` where neither is the default, no flag whose value may be left
out (`--json`, `--json FILE`), no abbreviated flags, and no errors of one line.
"""

import argparse
import dataclasses
import functools
import math
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import jax
import numpy as np

Main = Callable[[list[str] | None], int]
Options = TypeVar("Options")

LEAST = {"steps": 0, "process_id": 0, "seed": -(2**63)}
"""The least of a number by the name of its flag; of others 1 if they are whole, else 0."""
MOST = {"seed": 2**63 - 3, "average": 1}
"""The most, likewise; an experiment takes the seeds next to its own as well."""
SHARES = ("density", "share")
"""Numbers above 0, and of 1 at most."""


class Diverged(ValueError):
    """A run whose numbers are no numbers: there is nothing to judge."""


def flag(default: Any, text: str | None = None, *names: str, **options: Any) -> Any:
    """A field of a configuration, described for its command line.

    Args:
      default: of the field; of a group of flags, the group with its defaults.
      text: the help of the flag, or the title of the group.
      *names: of the flag, where they are not that of the field.
      **options: of `ArgumentParser.add_argument`, where the field's type does not say them.
    """
    described = {"text": text, "names": names, "options": options}
    return dataclasses.field(default=default, metadata={"flag": described})


def overrides(config: type, **dest: str) -> type:
    """A dataclass of the fields of `config` that were declared by `flag`, none of them given.

    Args:
      config: a dataclass of settings.
      **dest: other names of some of its fields.
    """
    hints, fields = get_type_hints(config), []
    for field in dataclasses.fields(config):
        if "flag" in field.metadata:
            unset = dataclasses.field(default=None, metadata=field.metadata)
            fields.append((dest.get(field.name, field.name), hints[field.name] | None, unset))
    return dataclasses.make_dataclass(f"{config.__name__}Overrides", fields, frozen=True)


def parse(
    cls: type[Options],
    arguments: list[str] | None,
    *,
    experiment: str,
    description: str | None,
    least: Mapping[str, int] = MappingProxyType({}),
) -> Options:
    """The command line as the dataclass that declares it; every number of it can be meant.

    Args:
      cls: the dataclass of the experiment's flags.
      arguments: by default those of the process.
      experiment: the module's name.
      description: the help before that of the flags.
      least: of this experiment's numbers, where it differs from `LEAST`.

    Raises:
      ValueError: for a number that is NaN, infinite or out of range.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m experiments.{experiment}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_flags(parser, cls)
    given = vars(parser.parse_args(arguments))
    for name, values in given.items():
        for value in values if isinstance(values, (list, tuple)) else (values,):
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                _check(name, value, LEAST | dict(least))
    return _build(cls, given)


def as_settings(options: Any) -> dict[str, Any]:
    """The flags by name, those of groups among the others."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        found |= as_settings(value) if dataclasses.is_dataclass(value) else {field.name: value}
    return found


def _add_flags(parser: Any, cls: type) -> None:
    """Declare the fields to a parser, those that are dataclasses as groups."""
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        described = field.metadata.get("flag", {"text": None, "names": (), "options": {}})
        if dataclasses.is_dataclass(hints[field.name]):
            group = parser.add_argument_group(described["text"])
            _add_flags(group, hints[field.name])
            continue
        names = described["names"] or (f"--{field.name.replace('_', '-')}",)
        options = _of_type(hints[field.name]) | described["options"]
        parser.add_argument(
            *names, dest=field.name, default=field.default, help=described["text"], **options
        )


def _of_type(hint: Any) -> dict[str, Any]:
    """What argparse is told about a flag by the type of its field."""
    if hint is bool:
        return {"action": "store_true"}
    if get_origin(hint) is UnionType or NoneType in get_args(hint):
        (hint, *_) = [each for each in get_args(hint) if each is not NoneType]
        if hint is bool:
            return {"action": argparse.BooleanOptionalAction}
    if get_origin(hint) is tuple:
        return {"nargs": "+"} | _of_type(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    return {"type": hint}


def _build(cls: type, given: Mapping[str, Any]) -> Any:
    """The dataclass from the values of its flags, all groups' in one dictionary."""
    hints, values = get_type_hints(cls), {}
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[field.name]):
            values[field.name] = _build(hints[field.name], given)
        else:
            value = given[field.name]
            values[field.name] = tuple(value) if isinstance(value, list) else value
    return cls(**values)


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
