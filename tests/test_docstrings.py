"""What a public name says of itself: a sentence, its arguments, its errors, and an example."""

import ast
import doctest
import importlib
import inspect
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.test_house import PUBLIC_MODULES, ROOT, sources

ERRORS = {"ValueError", "TypeError"}
CONSTRUCTED = {
    "Gate",
    "GradientTransformation",
    "GradientTransformationExtraArgs",
    "InitApply",
    "LearnedOptimiser",
    "LossFn",
    "MetaLearner",
    "Network",
    "Penalty",
    "Prox",
    "Sampler",
}
"""What returns one of these is a constructor, and shows how it is used."""

EXAMPLES = [
    path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    for path, source in sources("jaxmeta").items()
    if ">>> " in source
]


def described(module: types.ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Public functions and classes of a module, and the public methods of these classes."""
    for name in module.__all__:
        value = getattr(module, name)
        home = getattr(value, "__module__", None) or ""
        if not home.startswith("jaxmeta") or not (inspect.isclass(value) or callable(value)):
            continue
        yield name, value
        for method, function in vars(value).items() if inspect.isclass(value) else ():
            if inspect.isfunction(function) and not method.startswith("_"):
                yield f"{name}.{method}", function


def wanting(value: Callable[..., Any]) -> Iterator[str]:
    """What the docstring of a function or a class leaves out."""
    doc = inspect.cleandoc(value.__doc__ or "")
    if not doc.partition("\n")[0].endswith("."):
        yield "a first line that is one sentence and ends with a period"
    if inspect.isclass(value):
        return
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(value)))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    parameters = [name for name in inspect.signature(value).parameters if name != "self"]
    if len(parameters) > 2 and "\nArgs:\n" not in doc:
        yield "Args:"
    announced = doc.partition("\nRaises:\n")[2]
    for error in sorted(raised(tree) - {e for e in ERRORS if f"{e}:" in announced}):
        yield f"Raises: {error}"
    if constructs(tree) and ">>> " not in doc:
        yield "an example, >>>"


def raised(function: ast.AST) -> set[str]:
    """The errors that a function raises, or a function inside of it."""
    raises = [node.exc for node in ast.walk(function) if isinstance(node, ast.Raise)]
    calls = [exc.func if isinstance(exc, ast.Call) else exc for exc in raises]
    return {call.id for call in calls if isinstance(call, ast.Name)} & ERRORS


def constructs(function: ast.FunctionDef) -> bool:
    returned = function.returns
    name = returned.attr if isinstance(returned, ast.Attribute) else getattr(returned, "id", None)
    return name in CONSTRUCTED


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_a_public_name_says_what_a_caller_has_to_know(name):
    if name.startswith(("jaxmeta.tabular", "jaxmeta.embeddings")):
        pytest.importorskip("sklearn")
    missing = [
        f"{Path(inspect.getsourcefile(value)).relative_to(ROOT)}:{called}: {what}"
        for called, value in described(PUBLIC_MODULES[name])
        for what in wanting(value)
    ]
    assert not missing, "\n".join(["", *missing])


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run_and_give_what_they_say(name):
    if name.startswith(("jaxmeta.tabular.estimator", "jaxmeta.embeddings._classifier")):
        pytest.importorskip("sklearn")
    outcome = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert not outcome.failed
