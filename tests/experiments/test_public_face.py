"""Experiments use what every user of the library may use."""

import ast
from pathlib import Path

import pytest

import experiments

FILES = sorted(Path(experiments.__file__).parent.rglob("*.py"))


def modules_of(path):
    """The names that a file imports, whole."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{each.name}" for each in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_experiment_imports_nothing_private(path):
    private = [
        name
        for name in modules_of(path)
        if name.startswith("jaxmeta") and any(part.startswith("_") for part in name.split("."))
    ]
    assert not private


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_experiments_file_is_not_long(path):
    # Other libraries' side of the comparison runs alone, in a Python that may lack this package.
    if path.name != "peers.py":
        assert len(path.read_text().splitlines()) <= 250
