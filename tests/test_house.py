"""The rules of the house that a machine can check: names, what is public, and lengths."""

import ast
import importlib
import pkgutil
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import jaxmeta

ROOT = Path(__file__).parents[1]
FOLDERS = ("jaxmeta", "experiments", "tests")

MOST_LINES = 250
LONG_FILES = {
    "experiments/timing/peers.py": "one script for the Python of another library, on its own",
    "tests/references.py": "every learner again, in NumPy",
}
"""Files that may be longer, and why."""

MOST_LINES_OF_A_FUNCTION = 40
LONG_FUNCTIONS = {
    # A constructor holds the functions of its learner.
    "jaxmeta/acting/_planner.py:planner": 50,
    "jaxmeta/learners/_cavia.py:cavia": 60,
    "jaxmeta/learners/_hypernet.py:hypernet": 64,
    "jaxmeta/learners/_in_context.py:in_context": 69,
    "jaxmeta/learners/_learned_init.py:learned_init": 62,
    "jaxmeta/learners/_matching.py:matching": 53,
    "jaxmeta/learners/_neural_process.py:neural_process": 66,
    "jaxmeta/learners/_prototypes.py:prototypes": 44,
    "jaxmeta/learners/_recurrent.py:recurrent": 55,
    "jaxmeta/learners/_ridge.py:ridge": 63,
    "jaxmeta/learners/_transfer.py:transfer": 59,
    "jaxmeta/networks/_adapters.py:chain": 43,
    "jaxmeta/networks/_task_conv.py:task_conv": 43,
    "jaxmeta/objective.py:meta_objective": 49,
    "jaxmeta/tabular/meta_net/_learner.py:tabular": 46,
    "jaxmeta/training.py:make_step": 47,
    "jaxmeta/transforms/_fine_tune.py:fine_tune": 69,
}
"""Functions that are longer, with their lines without the docstring."""

MOST_LETTERS_OF_A_TEST = 60


def packages() -> Iterator[types.ModuleType]:
    """`jaxmeta` and every package in it; none of them is private."""
    yield jaxmeta
    for module in pkgutil.walk_packages(jaxmeta.__path__, "jaxmeta."):
        if module.ispkg:
            yield importlib.import_module(module.name)


PACKAGES = {package.__name__: package for package in packages()}
PUBLIC_MODULES = PACKAGES | {
    name: importlib.import_module(name)
    for name in (
        f"jaxmeta.{module.name}"
        for module in pkgutil.iter_modules(jaxmeta.__path__)
        if not module.name.startswith("_")
    )
}


def sources(*folders: str) -> dict[str, str]:
    """Every Python file of these folders, by its path in the repository."""
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def num_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    first, num = function.body[0], function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is None:
        return num
    return num - (first.end_lineno - first.lineno + 1)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_shows_what_may_be_used(name):
    package = PACKAGES[name]
    assert dir(package) == package.__all__


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_what_is_public_is_there_sorted_and_said_once(name):
    module = PUBLIC_MODULES[name]
    assert list(module.__all__) == sorted(set(module.__all__))
    assert [said for said in module.__all__ if said.startswith("_")] == []
    assert [said for said in module.__all__ if not hasattr(module, said)] == []


@pytest.mark.parametrize("name", PACKAGES)
def test_no_module_is_shadowed_by_a_name_of_its_package(name):
    package = PACKAGES[name]
    shadowed = [
        module.name
        for module in pkgutil.iter_modules(package.__path__)
        if not isinstance(getattr(package, module.name, jaxmeta), types.ModuleType)
    ]
    assert shadowed == []


def private_names(source: str) -> list[str]:
    """What a file takes from jaxmeta that jaxmeta does not show."""
    tree, taken, bound = ast.parse(source), [], {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [(alias.name, alias.asname) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [(f"{node.module}.{alias.name}", alias.asname) for alias in node.names]
        else:
            continue
        for name, short in names:
            if name.split(".")[0] == "jaxmeta":
                taken.append(name)
                plain = isinstance(node, ast.Import) and not short
                bound[short or name.split(".")[0 if plain else -1]] = "jaxmeta" if plain else name
    for node in ast.walk(tree):
        chain, at = [], node
        while isinstance(at, ast.Attribute):
            chain, at = [at.attr, *chain], at.value
        if chain and isinstance(at, ast.Name) and bound.get(at.id) in PUBLIC_MODULES:
            taken.append(".".join([bound[at.id], *chain]))
    return sorted({name for name in taken if not is_public(name)})


def is_public(name: str) -> bool:
    """Whether a dotted name can be reached from `jaxmeta` by names that modules show."""
    module, *rest = name.split(".")
    for at, part in enumerate(rest):
        inside = f"{module}.{part}"
        if inside in PUBLIC_MODULES:
            module = inside
            continue
        # Beyond a function or a class, attributes are not a module's to show.
        return part in PUBLIC_MODULES[module].__all__ and not any(
            later.startswith("_") for later in rest[at + 1 :]
        )
    return True


def test_experiments_use_the_public_face_alone():
    taken = {path: private_names(source) for path, source in sources("experiments").items()}
    assert {path: names for path, names in taken.items() if names} == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_are_of_one_idea_by_their_length(folder):
    lengths = {path: len(source.splitlines()) for path, source in sources(folder).items()}
    long = {path: num for path, num in lengths.items() if num > MOST_LINES}
    assert {path: num for path, num in long.items() if path not in LONG_FILES} == {}
    assert [path for path in LONG_FILES if path in lengths and path not in long] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_functions_are_of_one_idea_by_their_length(folder):
    long = {
        f"{path}:{function.name}": num_lines(function)
        for path, source in sources(folder).items()
        for function in functions(ast.parse(source))
        if num_lines(function) > MOST_LINES_OF_A_FUNCTION
    }
    assert long == {place: num for place, num in LONG_FUNCTIONS.items() if place.startswith(folder)}


def test_names_of_tests_are_short_enough_to_read():
    long = [
        f"{path}:{function.name}"
        for path, source in sources("tests").items()
        for function in functions(ast.parse(source))
        if function.name.startswith("test_") and len(function.name) > MOST_LETTERS_OF_A_TEST
    ]
    assert long == []
