"""A run that is killed, or goes on elsewhere, is the same run; whoever is left says why it ends.

KILLS=20 python -m pytest -m slow -s tests/experiments/test_killed.py
"""

import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxmeta import checkpoint
from tests import kill_worker

WORKER = Path(kill_worker.__file__)
KILLS = int(os.environ.get("KILLS", "3"))
SHARD = ("--parallel", "shard", "--devices")


def start(out, *flags):
    out.mkdir(exist_ok=True)
    env = {**os.environ, "PYTHONPATH": str(WORKER.parents[1]), "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.kill_worker", "--out", str(out), *map(str, flags)],
        env=env,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-2000:]


def wait_for_a_step(process):
    """Until it has made its first step of this life."""
    assert any("compiled" in line for line in process.stderr)


def kill(process):
    process.kill()
    process.communicate()


def arrays(out):
    """The leaves of the newest state."""
    state, _ = checkpoint.restore_newest(out / "toy.state", kill_worker.start())
    return jax.tree.leaves(state._replace(key=jax.random.key_data(state.key)))


def in_a_write(out, since):
    """Whether there is a file of a save that had not ended."""
    unfinished = [*out.glob(".*"), *out.glob("*.new")]
    return any(path.stat().st_mtime >= since for path in unfinished)


@pytest.mark.slow
def test_a_run_killed_at_random_ends_with_the_same_bits(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(whole))
    rng, writes = random.Random(0), 0
    for i in range(KILLS):
        since = time.time()
        process = start(killed, "--write-seconds", 0.05)
        wait_for_a_step(process)
        time.sleep(rng.uniform(0.0, 3.0))
        kill(process)
        writes += in_a_write(killed, since)
        steps = int(arrays(killed)[-1]) if checkpoint.newest_first(killed / "toy.state") else 0
        print(f"kill {i + 1}: {steps} steps are saved, {writes} kills met a write", flush=True)
    assert writes > 0
    finish(start(killed))
    for got, want in zip(arrays(killed), arrays(whole), strict=True):
        np.testing.assert_array_equal(got, want)
    assert not list(killed.glob(".*")), "what killed writers had left aside is gone"


@pytest.mark.slow
def test_from_one_device_to_four_and_back_it_is_the_same_run(tmp_path):
    whole, moved = tmp_path / "whole", tmp_path / "moved"
    finish(start(whole, "--steps", 9))
    for steps, flags in ((3, ()), (6, (*SHARD, 4)), (9, ())):
        finish(start(moved, "--steps", steps, *flags))
    for got, want in zip(arrays(moved), arrays(whole), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


def two_processes(out, *numbers):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    several = (*SHARD, 2, "--coordinator", coordinator, "--num-processes", 2, "--process-id")
    return [start(out, "--steps", 10**6, *several, number) for number in numbers]


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_who_loses_the_other_process_says_so_within_a_minute(tmp_path, lost):
    processes = two_processes(tmp_path, 0, 1)
    for process in processes:
        wait_for_a_step(process)
    time.sleep(1.0)
    kill(processes[lost])
    _, errors = processes[1 - lost].communicate(timeout=60)
    assert processes[1 - lost].returncode != 0
    assert "another task died" in errors
    assert int(arrays(tmp_path)[-1]) > 0


@pytest.mark.slow
def test_waiting_for_a_process_that_never_comes_ends(tmp_path):
    says = ["detected fatal errors", "could not join the others at"]
    waiting = [two_processes(tmp_path / f"{number}", number)[0] for number in range(2)]
    for process, said in zip(waiting, says, strict=True):
        _, errors = process.communicate(timeout=75)  # a minute, and the start of Python
        assert process.returncode != 0
        assert said in errors
