"""Other libraries beside ours: a worker of NumPy's that answers as `peers.py` does."""

import stat
import sys

import jax
import numpy as np
import pytest

from experiments import throughput
from experiments.timing import peer_process
from experiments.timing.workloads import CASES

# A library whose only case is the hypernetwork, by the names of the arrays that it is given.
WORKER = """#!{python}
import json, sys
import numpy as np

script, library, case, steps, rate, path = sys.argv[1:]
if library != "torch_func":
    print(json.dumps({{"missing": "not installed"}}))
    sys.exit()
arrays = dict(np.load(path))
dense = lambda name, x: x @ arrays[f"theta/{{name}}/kernel"] + arrays[f"theta/{{name}}/bias"]
context = dense("describe/1", np.maximum(0, dense("describe/0", arrays["batch/description"])))
context = context / np.sqrt((context ** 2).mean(-1, keepdims=True) + 1e-6)
x = arrays["batch/query_x"]
for i in range(2):
    bias = dense(f"emit/{{i}}/bias", context)
    kernel = dense(f"emit/{{i}}/kernel", context).reshape(len(x), -1, bias.shape[-1])
    x = (np.maximum(0, x) if i else x) @ kernel + bias[:, None]
loss = float(((x - arrays["batch/query_y"]) ** 2).mean()) * {factor}
print(json.dumps({{"loss": loss, "version": "1"}}), flush=True)
for line in sys.stdin:
    print(json.dumps({{"times": [float(line)] * 2}}), flush=True)
"""


def worker(folder, factor=1.0):
    """The path of an executable that stands in for a Python with other libraries."""
    path = folder / "python"
    path.write_text(WORKER.format(python=sys.executable, factor=factor))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def compare(folder, python):
    flags = ["--case", "hypernet", "--meta-batch", "4", "--seconds", "0.25", "--rounds", "2"]
    return throughput.main(
        [*flags, "--compare", "--peer-python", python, "--out", str(folder / "out")]
    )


@pytest.mark.slow
def test_another_library_takes_turns_on_the_same_arrays(tmp_path, capsys):
    assert compare(tmp_path, worker(tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()
    # It says that each step took a quarter of a second; the others are not installed.
    ours = float(lines[2].split()[4])
    assert lines[-2].split()[3:] == ["torch_func"]
    assert float(lines[-1].split()[3].rstrip("x")) == pytest.approx(250 / ours, rel=0.01)


def test_a_first_loss_that_differs_is_an_error(tmp_path, capsys):
    assert compare(tmp_path, worker(tmp_path, factor=1.01)) == 2
    assert "of torch_func" in capsys.readouterr().err


def test_a_library_that_cannot_start_is_left_out():
    case = CASES["hypernet"](2, 0)
    theta = case.learner.init(jax.random.key(0), jax.tree.map(lambda leaf: leaf[0], case.batch))
    with peer_process.peers("hypernet", 0, case, theta, ["higher"], "/bin/false") as peers:
        assert peers == {}


def test_ratios_leave_blanks_where_a_library_has_no_such_case():
    row = {"case": "a", "meta_batch": 4, "inner_steps": 1, "ms_median": 2.0}
    rows = [row | {"peers": {"torchopt": 5.0}}, row | {"peers": {"higher": np.float64(4.0)}}]
    head, first, second = throughput.ratios(rows).splitlines()
    assert head.split() == ["case", "tasks", "inner", "higher", "torchopt"]
    assert first.split() == ["a", "4", "1", "-", "2.50x"]
    assert second.split() == ["a", "4", "1", "2.00x", "-"]
