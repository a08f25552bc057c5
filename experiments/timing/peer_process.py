"""Other libraries on the same arrays: each in a process of its own, timed in turns with ours."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.timing import hand_written
from experiments.timing.workloads import Case

LIBRARIES = ("learn2learn", "higher", "torchopt", "torch_func")
_SCRIPT = Path(__file__).with_name("peers.py")


class Peer:
    """A library that has taken its first step, and takes more when it is asked to."""

    def __init__(self, library: str, python: str, arguments: list[str]) -> None:
        self.process = subprocess.Popen(
            [python, str(_SCRIPT), library, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Threads that spin while they wait would take the cores from whoever has the turn.
            env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
        )
        self.first = self._answer()

    def seconds_of(self, budget: float) -> list[float]:
        """Durations of its steps, repeated for `budget` seconds, twice at the least."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{budget}\n")
        self.process.stdin.flush()
        return self._answer()["times"]

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"missing": f"exit code {self.process.wait()}"}

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def peers(
    name: str, steps: int, case: Case, theta: Any, libraries: list[str], python: str
) -> Iterator[dict[str, Peer]]:
    """The libraries that are installed and have this case, each with its first step taken."""
    started: dict[str, Peer] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "arrays.npz")
        np.savez(path, allow_pickle=False, **_by_name(case, theta))
        rate = hand_written.RATES.get(name, 0.0)
        try:
            for library in libraries:
                peer = Peer(library, python, [name, str(steps), str(rate), str(path)])
                started[library] = peer
            yield {library: peer for library, peer in started.items() if "loss" in peer.first}
        finally:
            for peer in started.values():
                peer.close()


def _by_name(case: Case, theta: Any) -> dict[str, np.ndarray]:
    """The arrays of a batch and of theta, each by its name."""
    support, query, description = case.batch
    arrays = {"batch/support_x": support.x, "batch/support_y": support.y}
    arrays |= {"batch/query_x": query.x, "batch/query_y": query.y}
    if description is not None:
        arrays["batch/description"] = description
    for path, leaf in jax.tree_util.tree_leaves_with_path(theta):
        arrays["theta/" + jax.tree_util.keystr(path, simple=True, separator="/")] = leaf
    return {name: np.asarray(array) for name, array in arrays.items()}
