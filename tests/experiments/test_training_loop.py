"""The loop of the experiments: a run that is interrupted goes on, one of faults alone ends."""

import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.common import training_loop
from jaxmeta import TrainState


def test_resume_ends_where_an_uninterrupted_run_ends(tmp_path):
    """Ctrl-C during step 3 of 6, then a second call: the same state to the bit."""

    @jax.jit
    def step(state: TrainState):
        noise = jax.random.normal(jax.random.fold_in(state.key, state.step), (4,))
        moved = state._replace(theta=0.9 * state.theta + noise, step=state.step + 1)
        return moved, {"loss": jnp.zeros(1), "accuracy": jnp.ones(1)}

    def interrupted(state: TrainState):
        if int(state.step) == 2:
            signal.raise_signal(signal.SIGINT)
        return step(state)

    start = TrainState(jnp.zeros(4), (), jax.random.key(1), jnp.int32(0))
    settings = {"name": "toy", "config": {"a": 1}, "num_steps": 6, "log_every": 2}
    whole, _ = training_loop.train(step, start, out=_folder(tmp_path / "a"), **settings)
    out = _folder(tmp_path / "b")
    with pytest.raises(KeyboardInterrupt):
        training_loop.train(interrupted, start, out=out, **settings)
    restored, seconds = training_loop.resume(start, name="toy", config={"a": 1}, out=out)
    assert int(restored.step) == 3 and seconds >= 0
    with pytest.raises(ValueError, match=r"other settings than these \(a\)"):
        training_loop.resume(start, name="toy", config={"a": 2}, out=out)
    resumed, _ = training_loop.train(step, restored, out=out, **settings)
    np.testing.assert_array_equal(whole.theta, resumed.theta)
    assert [record["step"] for record in training_loop.read_metrics(out)] == [2, 4, 6]


def test_training_stops_after_faults_and_keeps_the_last_good(tmp_path, monkeypatch):
    monkeypatch.setattr(training_loop, "MOST_FAULTS", 4)
    monkeypatch.setattr(training_loop, "_SAVE_EVERY_SECONDS", 0.0)
    tx = training_loop.skip_faults(optax.sgd(1.0))

    @jax.jit
    def step(state: TrainState):
        fault = (state.step == 1) | (state.step >= 4)
        updates, opt_state = tx.update(jnp.where(fault, jnp.nan, 1.0), state.opt_state)
        moved = state._replace(theta=state.theta + updates, opt_state=opt_state)
        return moved._replace(step=state.step + 1), {"loss": jnp.zeros(1)}

    start = TrainState(jnp.zeros(()), tx.init(jnp.zeros(())), jax.random.key(1), jnp.int32(0))
    settings = {"name": "toy", "config": {}, "out": tmp_path}
    with pytest.raises(ValueError, match="gradients of 4 outer steps in a row, up to step 8"):
        training_loop.train(step, start, num_steps=20, log_every=1, **settings)
    records = list(training_loop.read_metrics(tmp_path))
    assert [record["skipped"] for record in records] == [0, 1, 1, 1, 2, 3, 4]
    kept, _ = training_loop.resume(start, **settings)
    assert kept.theta == -3.0 and kept.step == 7


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
