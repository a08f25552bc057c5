"""Programs of `jaxmeta.export.numpy_program`, run by NumPy and SciPy's BLAS, without JAX.

A program is a list of steps `[operation, settings, inputs, outputs]`, whose inputs and outputs are
numbered places; it is stored as JSON.
"""

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxmeta._numpy_operations import OPERATIONS

VERSION = 1

Values = tuple[Any, ...]


def load_program(text: str, *known: np.ndarray) -> Callable[..., Values]:
    """Make a function of a stored program.

    Args:
      text: what `jaxmeta.export.numpy_program` gave.
      known: its first inputs, if they are always the same: what depends on nothing else is computed
        here, once.

    Returns:
      A function from the other inputs to the tuple of outputs. It refuses arrays of other shapes
      than the program was traced for (ValueError), or of another kind of number (TypeError).

    Raises:
      ValueError: if the text is of another version of this format.

    Example:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from jaxmeta.export import load_program, numpy_program
      >>> text = numpy_program(lambda scale, x: scale * x, jnp.ones(()), jnp.ones(2))
      >>> double = load_program(text, np.float32(2.0))
      >>> double(np.arange(2.0))[0].tolist()
      [0.0, 2.0]
    """
    document = json.loads(text)
    if document.get("version") != VERSION:
        raise ValueError(
            f"The program has version {document.get('version')} of its format, this jaxmeta reads "
            f"version {VERSION}: export it again."
        )
    takes = document["takes"]
    with np.errstate(all="ignore"):
        function = _function(document, _as_traced(known, takes[: len(known)]))

    def run(*inputs: np.ndarray) -> Values:
        inputs = _as_traced(inputs, takes[len(known) :])
        with np.errstate(all="ignore"):  # As in XLA: what is not finite is for the program to see.
            # Copies: nobody who writes into a result changes a constant of the program.
            return tuple(np.array(each) for each in function(*inputs))

    return run


def _as_traced(inputs: Sequence[Any], takes: Sequence[Any]) -> Values:
    """The inputs in the dtypes that the program was traced with."""
    if len(inputs) != len(takes):
        raise ValueError(f"The program takes {len(takes)} more arrays, got {len(inputs)}.")
    for i, (array, (shape, _)) in enumerate(zip(inputs, takes, strict=True)):
        if list(np.shape(array)) != shape:
            raise ValueError(f"Array {i} of a program has shape {shape}, got {np.shape(array)}.")
    return tuple(
        np.asarray(array).astype(dtype, casting="same_kind", copy=False)
        for array, (_, dtype) in zip(inputs, takes, strict=True)
    )


def stored(array: np.ndarray) -> list[Any]:
    """An array as JSON can hold it."""
    little = np.asarray(array).astype(array.dtype.newbyteorder("<"), order="C")
    return [array.dtype.name, list(array.shape), base64.b85encode(little.tobytes()).decode()]


def _restored(dtype: str, shape: list[int], text: str) -> np.ndarray:
    little = np.dtype(dtype).newbyteorder("<")
    return np.frombuffer(base64.b85decode(text), little).astype(dtype).reshape(shape)


def _function(document: dict[str, Any], known: Sequence[np.ndarray] = ()) -> Callable[..., Values]:
    """What a program computes, as a function."""
    places: list[Any] = [None] * document["places"]
    given = set()
    for place, array in document["constants"]:
        places[place] = _restored(*array)
        given.add(place)
    inputs, outputs = document["inputs"], document["outputs"]
    for place, value in zip(inputs, known, strict=False):
        places[place] = value
        given.add(place)
    inputs = inputs[len(known) :]
    steps = []
    for name, settings, operands, results in document["steps"]:
        operation = (_CONTROL.get(name) or OPERATIONS[name])(**settings)
        if given.issuperset(operands):
            values = operation(*[places[place] for place in operands])
            for place, value in zip(results, _several(values), strict=True):
                places[place] = value
            given.update(results)
        else:
            steps.append((operation, tuple(operands), results))
    plan = _with_ends(steps, {*given, *outputs})

    def run(*values: np.ndarray) -> Values:
        held = places.copy()
        for place, value in zip(inputs, values, strict=True):
            held[place] = value
        for operation, operands, results, dead in plan:
            values = operation(*[held[place] for place in operands])
            for place, value in zip(results, _several(values), strict=True):
                held[place] = value
            for place in dead:
                held[place] = None
        return tuple(held[place] for place in outputs)

    return run


def _with_ends(steps: list[Any], needed: set[int]) -> list[Any]:
    """The steps, each with the places that no later one reads: they are emptied after it."""
    plan = []
    for operation, operands, results in reversed(steps):
        plan.append((operation, operands, results, {*operands, *results} - needed))
        needed.update(operands)
    return plan[::-1]


def _several(values: Any) -> Values:
    return values if isinstance(values, tuple) else (values,)


# Loops and branches, whose settings hold programs


def _scan(body: dict[str, Any], num_consts: int, num_carry: int, length: int, reverse: bool, empty):
    step = _function(body)
    none = tuple(np.empty(shape, dtype) for shape, dtype in empty)
    turns = range(length)[::-1] if reverse else range(length)

    def run(*operands):
        consts, rest = operands[:num_consts], operands[num_consts:]
        carry, sequences = rest[:num_carry], rest[num_carry:]
        outputs = []
        for turn in turns:
            values = step(*consts, *carry, *(each[turn] for each in sequences))
            carry = values[:num_carry]
            outputs.append(values[num_carry:])
        if not outputs:
            return (*carry, *none)
        if reverse:
            outputs.reverse()
        return (*carry, *(np.stack(each) for each in zip(*outputs, strict=True)))

    return run


def _while(condition: dict[str, Any], body: dict[str, Any], condition_consts: int, consts: int):
    goes_on, step = _function(condition), _function(body)

    def run(*operands):
        first, second = operands[:condition_consts], operands[condition_consts:]
        second, state = second[:consts], second[consts:]
        while goes_on(*first, *state)[0]:
            state = step(*second, *state)
        return state

    return run


def _branch(branches: list[dict[str, Any]]):
    functions = [_function(branch) for branch in branches]

    def run(index, *operands):
        return functions[min(max(int(index), 0), len(functions) - 1)](*operands)

    return run


_CONTROL = {"branch": _branch, "scan": _scan, "while": _while}
