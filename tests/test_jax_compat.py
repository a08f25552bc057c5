"""What is not public in jax is named in one file alone, and holds on the installed version."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import jaxmeta
from jaxmeta import _jax_compat, parallel

PRIVATE = re.compile(
    r"jax\.core\b|jax\.extend|jax\.interpreters|jax\._src|manual_axis_type|\bTracer\b"
)


def test_names_that_jax_does_not_promise_are_in_one_file():
    sources = Path(jaxmeta.__file__).parent.rglob("*.py")
    named = {path.name for path in sources if PRIVATE.search(path.read_text())}
    assert named == {"_jax_compat.py"}


def test_every_name_is_there_and_some_version_was_tested():
    assert _jax_compat.TESTED
    for name in _jax_compat.__all__:
        assert getattr(_jax_compat, name) is not None


def test_what_is_traced_is_not_concrete():
    found = []
    jax.jit(lambda x: found.append(_jax_compat.is_concrete({"x": x}, 1.0)) or x)(jnp.ones(2))
    assert found == [False] and _jax_compat.is_concrete({"x": jnp.ones(2)}, 1.0)


def test_a_program_runs_again_and_its_inner_programs_are_found():
    program = jax.make_jaxpr(lambda x: jax.lax.cond(x > 0, jnp.sin, jnp.cos, x))(1.0)
    assert _jax_compat.eval_jaxpr(program.jaxpr, program.consts, 2.0)[0] == jnp.sin(2.0)
    inner = [_jax_compat.inner_jaxprs(equation) for equation in program.eqns]
    assert max(map(len, inner)) == 2
    assert all(isinstance(one, _jax_compat.Jaxpr) for found in inner for one in found)


def test_what_is_one_operation_only_while_traced_is_expanded():
    """Whether there is such a thing depends on the version: what is left is none."""

    def names(jaxpr):
        for equation in jaxpr.eqns:
            composite = _jax_compat.expanded(equation)
            inner = [] if composite is None else [composite.jaxpr]
            for program in inner or _jax_compat.inner_jaxprs(equation):
                yield from names(program)
            if not inner:
                yield equation.primitive.name

    assert "call_hi_primitive" not in names(jax.make_jaxpr(jnp.frexp)(jnp.ones(2)).jaxpr)


@pytest.mark.parametrize("typed", [True, False])
def test_axes_along_which_shards_differ_are_told(typed):
    found, mesh = [], parallel.task_mesh(1)

    def share(x):
        found.append(_jax_compat.varying_axes(x))
        return x

    rows = jax.sharding.PartitionSpec(parallel.TASK_AXIS)
    jax.shard_map(share, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=typed)(jnp.ones(2))
    assert found[0] == ({parallel.TASK_AXIS} if typed else set())
    assert _jax_compat.varying_axes(jnp.ones(2)) == set()
