"""Which formulation of a convolution is taken: by the table that ships, or measured."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.networks import _formulations, task_conv


def test_auto_measures_a_shape_once_and_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXMETA_CACHE", str(tmp_path))
    monkeypatch.setattr(_formulations, "_found", {})
    measured = []
    fastest = _formulations._fastest
    monkeypatch.setattr(
        _formulations, "_fastest", lambda *args: measured.append(args) or fastest(*args)
    )
    rng = np.random.default_rng(0)
    x, kernel = (
        jnp.asarray(rng.normal(size=shape)) for shape in ((2, 3, 5, 5, 2), (2, 3, 3, 2, 4))
    )
    auto = functools.partial(task_conv, formulation="auto")
    for _ in range(2):
        got = jax.jit(jax.grad(lambda k: (jax.vmap(auto)(x, k) ** 2).sum()))(kernel)
        want = jax.grad(lambda k: (jax.vmap(task_conv)(x, k) ** 2).sum())(kernel)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
        assert len(measured) == 2  # the convolution, and the gradient of its kernel
        _formulations._found.clear()  # as a new process
    found = json.loads((tmp_path / "formulations.json").read_text())
    assert len(found) == 2 and set(found.values()) <= {"loop", "grouped", "patches"}


def test_auto_does_without_a_file_and_without_the_device(tmp_path, monkeypatch):
    """What it measured is wrong for another platform; a cache that is broken is none."""
    monkeypatch.setenv("JAXMETA_CACHE", str(tmp_path))
    for broken in ('{"a": "fft", "b": 1}', "[1]", "{"):
        (tmp_path / "formulations.json").write_text(broken)
        assert _formulations._read() == {}
    monkeypatch.setattr(_formulations, "_found", {})
    x, kernel = jnp.ones((2, 3, 5, 5, 1)), jnp.ones((2, 3, 3, 1, 4))
    auto = jax.vmap(functools.partial(task_conv, formulation="auto"))
    np.testing.assert_allclose(auto(x, kernel), jax.vmap(task_conv)(x, kernel), rtol=1e-5)
    elsewhere = jax.jit(auto).trace(x, kernel).lower(lowering_platforms=("cuda",))
    assert "stablehlo.convolution" not in elsewhere.as_text()


def test_the_table_has_a_rule_for_every_shape():
    for platform, operations in _formulations.table().items():
        assert set(operations) == {"conv", "kernel_grad"}
        for operation in operations:
            for channels in (1, 3, 64, 4096):
                found = _formulations.by_table(platform, operation, channels)
                assert found in ("loop", "grouped", "patches")
