"""Checkpoints: nothing is lost, damage is noticed, and a resumed run is the same run."""

import os

import jax
import jax.numpy as jnp
import msgpack
import numpy as np
import pytest

import jaxmeta
from jaxmeta import checkpoint, learners, losses, make_step, meta_objective, networks, scan_steps
from jaxmeta.types import TrainState
from tests.checkpoints import ADAM, CONFIG, SAMPLER, assert_same, start


@pytest.fixture
def state():
    """A state with a typed key, the state of adam and a leaf of bfloat16, nowhere zero."""
    state = start()
    theta = state.theta | {"half": jnp.array([1.5, -0.1], jnp.bfloat16), "count": jnp.arange(3)}
    theta["log_scale"] = theta["log_scale"] + 1e-3
    opt_state = jax.tree.map(lambda leaf: leaf + 1, ADAM.init(theta))
    return TrainState(theta, opt_state, jax.random.key(42), jnp.int32(7))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "state.msgpack"


def blank(state):
    """The same structure, another content."""
    zeros = jax.tree.map(jnp.zeros_like, state._replace(key=0, step=0))
    return zeros._replace(key=jax.random.key(0), step=jnp.int32(0))


def test_a_train_state_comes_back_to_the_bit(state, path):
    checkpoint.save(path, state, CONFIG)
    assert_same(checkpoint.restore(path, blank(state)), state)
    assert checkpoint.read_config(path) == CONFIG


def test_a_restored_key_draws_the_same_numbers(state, path):
    checkpoint.save(path, state, CONFIG)
    back = checkpoint.restore(path, blank(state))
    np.testing.assert_array_equal(jax.random.normal(back.key, 3), jax.random.normal(state.key, 3))


def test_a_run_resumed_from_a_file_is_the_run_that_never_stopped(path):
    learner = learners.prototypes(networks.mlp([3]), ways=2)
    step = make_step(meta_objective(learner, losses.cross_entropy), ADAM)
    run = jax.jit(scan_steps(step, SAMPLER, num_steps=3, tasks_per_step=2))
    whole, _ = run(run(start())[0])
    checkpoint.save(path, run(start())[0], CONFIG)
    resumed, _ = run(checkpoint.restore(path, start(seed=9)))
    assert_same(resumed, whole)


def test_float16_halves_the_file_and_keeps_three_digits(path):
    theta = {
        "w": jax.random.normal(jax.random.key(0), (4000,)),
        "labels": jnp.arange(100_000, 100_003),
    }
    checkpoint.save(path, theta, CONFIG)
    size = path.stat().st_size
    checkpoint.save(path, theta, CONFIG, dtype=jnp.float16)
    assert path.stat().st_size < 0.55 * size
    back = checkpoint.restore(path, theta)
    assert back["w"].dtype == jnp.float32
    np.testing.assert_allclose(back["w"], theta["w"], rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(back["labels"], theta["labels"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="no checkpoint at .*absent"):
        checkpoint.restore(tmp_path / "absent", start())


def test_a_file_cut_short_anywhere_is_noticed(path):
    checkpoint.save(path, {"w": jnp.arange(3.0)}, CONFIG)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="state.msgpack"):
            checkpoint.restore(path, {"w": jnp.zeros(3)})


@pytest.mark.parametrize("bit", [0, 3, 6, 7])
def test_a_flipped_bit_anywhere_is_noticed_or_harmless(path, bit):
    """In every byte of the file: a ValueError, or the arrays and the configuration as saved."""
    checkpoint.save(path, {"w": jnp.arange(1.0, 4.0)}, CONFIG)
    content = path.read_bytes()
    wrong = []
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << bit
        path.write_bytes(bytes(damaged))
        try:
            np.testing.assert_array_equal(
                checkpoint.restore(path, {"w": jnp.zeros(3)})["w"], [1.0, 2.0, 3.0]
            )
            assert checkpoint.read_config(path) == CONFIG
        except ValueError as error:
            if "state.msgpack" not in str(error):
                wrong.append((position, content[position : position + 12], repr(error)))
        except Exception as error:
            wrong.append((position, content[position : position + 12], repr(error)[:80]))
    assert not wrong, f"{len(wrong)} of {len(content)} bytes: {wrong[:3]}"


@pytest.mark.parametrize("content", [b"", b"PNG or so", msgpack.packb([1, 2]), msgpack.packb(3)])
def test_something_else_is_called_unreadable(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        checkpoint.restore(path, start())


def test_a_newer_format_asks_for_an_upgrade(path):
    checkpoint.save(path, start(), CONFIG)
    envelope = msgpack.unpackb(path.read_bytes())
    path.write_bytes(msgpack.packb(envelope | {"format": envelope["format"] + 1}))
    with pytest.raises(ValueError, match="upgrade jaxmeta"):
        checkpoint.restore(path, start())


def test_the_checkpoint_of_another_learner_is_refused(path):
    checkpoint.save(path, start(size=3), CONFIG)
    with pytest.raises(ValueError, match="another learner.*kernel"):
        checkpoint.restore(path, start(size=4))
    with pytest.raises(ValueError, match="another learner"):
        checkpoint.restore(path, start(size=3).theta)


def test_numbers_of_another_kind_are_refused(path):
    # Weights into integers would lose what is behind the point, in silence.
    checkpoint.save(path, {"w": jnp.array([0.5, 1.5])}, CONFIG)
    with pytest.raises(ValueError, match="another learner"):
        checkpoint.restore(path, {"w": jnp.zeros(2, jnp.int32)})


def test_a_file_tells_the_versions_that_wrote_it(path):
    checkpoint.save(path, start(), CONFIG)
    written = msgpack.unpackb(msgpack.unpackb(path.read_bytes())["payload"])["versions"]
    assert written["jax"] == jax.__version__ and written["jaxmeta"] == jaxmeta.__version__


def test_saving_leaves_one_file_and_replaces_the_old_one(path):
    for seed in range(2):
        checkpoint.save(path, start(seed=seed), CONFIG | {"seed": seed})
        assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert checkpoint.read_config(path)["seed"] == 1
    assert_same(checkpoint.restore(path, start()), start(seed=1))


@pytest.mark.parametrize("error", [OSError("no space left on device"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_the_old_file_whole(path, monkeypatch, error):
    checkpoint.save(path, start(seed=0), CONFIG)

    def interrupted(descriptor):
        raise error

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(type(error)):
        checkpoint.save(path, start(seed=1), CONFIG)
    monkeypatch.undo()
    assert_same(checkpoint.restore(path, start(seed=5)), start(seed=0))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_configuration_not_json_leaves_the_old_file_whole(path):
    checkpoint.save(path, start(), CONFIG)
    with pytest.raises(TypeError):
        checkpoint.save(path, start(seed=1), {"network": object()})
    assert checkpoint.read_config(path) == CONFIG


def test_only_the_first_process_writes(path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    checkpoint.save(path, start(), CONFIG)
    checkpoint.save_newest(path, start(), CONFIG)
    assert not path.parent.exists()
