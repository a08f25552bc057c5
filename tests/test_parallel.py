"""One device, all devices of a process, a mesh, and several processes: the same run."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from jaxmeta import (
    _collectives,
    learners,
    losses,
    make_step,
    meta_objective,
    networks,
    parallel,
    training,
)

WORKER = Path(__file__).with_name("parallel_worker.py")
LEARNERS = ("metric", "gradient", "closed form", "hypernetwork", "policy gradient")


def start(num_devices, *arguments):
    """The worker in a process that has `num_devices` virtual devices."""
    # Compiled as conftest.py says: collectives are counted before XLA could merge several into one.
    flags = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={num_devices}"
    )
    # Without a thread for each device, collectives wait for each other for ever.
    env = {**os.environ, "XLA_FLAGS": flags, "NPROC": "16", "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, str(WORKER), *map(str, arguments)],
        env=env,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes):
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-2000:]


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """What one device gives."""
    out = tmp_path_factory.mktemp("none") / "out.npz"
    finish(start(1, "none", out))
    return dict(np.load(out))


def assert_same(single, out):
    several = dict(np.load(out))
    for name in LEARNERS:
        for key in ("theta", "loss", "losses"):
            key = f"{name}/{key}"
            np.testing.assert_allclose(several[key], single[key], atol=1e-6, err_msg=key)
        assert several[f"{name}/donated"]
    for key in ("judged", "masked/theta"):
        np.testing.assert_allclose(several[key], single[key], atol=1e-6, err_msg=key)
    assert several["masked/bad_tasks"] == single["masked/bad_tasks"] == 3
    assert np.isfinite(several["masked/theta"]).all() and len(several["judged"]) == 37
    return several


def test_pmap_on_eight_devices_is_one_device(single, tmp_path):
    finish(start(8, "pmap", tmp_path / "out.npz"))
    assert_same(single, tmp_path / "out.npz")


@pytest.mark.slow
def test_eight_devices_are_one_and_communicate_once(single, tmp_path):
    finish(start(8, "shard", tmp_path / "out.npz"))
    found = assert_same(single, tmp_path / "out.npz")
    for name in (*LEARNERS, "masked"):
        assert found[f"{name}/all-reduce"] == 1
        for other in ("all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
            assert found[f"{name}/{other}"] == 0


@pytest.mark.slow
def test_two_processes_of_two_devices_are_one_device(single, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    out = tmp_path / "out.npz"
    finish(*[start(2, "shard", out, coordinator, 2, i) for i in range(2)])
    assert_same(single, out)


@pytest.fixture
def step_and_state(task):
    learner, tx = learners.prototypes(networks.mlp([4]), ways=3), optax.sgd(0.1)
    step = make_step(meta_objective(learner, losses.cross_entropy), tx)
    return step, training.init(learner, tx, jax.random.key(0), task)


def test_a_state_survives_replication_and_its_key_stays_a_key(step_and_state):
    _, state = step_and_state
    back = parallel.unreplicate(parallel.replicate(state))
    jax.tree.map(np.testing.assert_array_equal, back._replace(key=0), state._replace(key=0))
    assert jax.random.key_data(back.key).tolist() == jax.random.key_data(state.key).tolist()


def test_more_devices_than_there_are_is_a_sentence():
    with pytest.raises(ValueError, match=f"there are {jax.device_count()}"):
        parallel.task_mesh(jax.device_count() + 1)
    with pytest.raises(ValueError, match="0 devices"):
        parallel.task_mesh(0)


def test_a_mesh_of_two_axes_is_a_sentence(step_and_state):
    step, _ = step_and_state
    mesh = jax.make_mesh((1, 1), ("a", "b"))
    with pytest.raises(ValueError, match="one axis"):
        parallel.shard_step(step, mesh)


def test_tasks_that_the_devices_do_not_divide_are_a_sentence():
    with pytest.raises(ValueError, match="3 devices cannot share 16 tasks"):
        _collectives.check_divides(3, 16)
