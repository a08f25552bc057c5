"""A type checker sees the types of the installed library in a user's program."""

import importlib.util
import json
import site
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import jaxmeta

PACKAGE = Path(jaxmeta.__file__).parent
RIGHT = """
import jax
import optax
import jaxmeta as jm

learner = jm.learners.prototypes(jm.networks.mlp([8]), ways=3)
sampler = jm.tasks.two_tasks(queries=2)
loss_fn = jm.meta_objective(learner, jm.losses.cross_entropy, jm.sparsity.l1, eta=1e-3)
step = jm.make_step(loss_fn, optax.adam(1e-3))
evaluation: jm.Evaluation = jm.evaluate(learner, None, sampler, key=jax.random.key(0), num_tasks=2)
name: float = evaluation.mean
"""
WRONG = """
import optax
import jaxmeta as jm

learner: int = jm.learners.prototypes(jm.networks.mlp([8]))
jm.learners.prototypes(jm.networks.mlp([8]), distance="manhattan")
jm.learners.prototypes(jm.networks.mlp([8]), way=5)
jm.make_step(optax.adam(1e-3))
jm.learners.matchin()
"""


def errors_of(program, tmp_path):
    """What pyrefly says about a program: `(line, kind)` of each error."""
    if importlib.util.find_spec("pyrefly") is None:
        pytest.skip("pyrefly comes with the extra dev, not with test")
    (tmp_path / "program.py").write_text(program)
    (tmp_path / "pyrefly.toml").write_text('project-includes = ["program.py"]\n')
    command = [sys.executable, "-m", "pyrefly", "check", "--output-format", "json"]
    # An editable installation is found by an import hook, which no checker runs.
    path = [PACKAGE.parent, *site.getsitepackages()]
    command += [f"--site-package-path={each}" for each in path]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    return [(each["line"], each["name"]) for each in json.loads(run.stdout)["errors"]]


def test_a_right_program_has_no_type_errors(tmp_path):
    assert errors_of(RIGHT, tmp_path) == []


def test_each_wrong_use_is_a_type_error(tmp_path):
    errors = errors_of(WRONG, tmp_path)
    assert sorted({line for line, _ in errors}) == [5, 6, 7, 8, 9]


def test_the_package_says_and_ships_that_it_is_typed():
    assert (PACKAGE / "py.typed").is_file()
    settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())
    assert "py.typed" in settings["tool"]["setuptools"]["package-data"]["jaxmeta"]
    assert "Typing :: Typed" in settings["project"]["classifiers"]
