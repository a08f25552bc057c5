"""The throughput kit at toy size, and what the library costs beyond the mathematics."""

import json

import jax
import optax
import pytest

from experiments import throughput
from experiments.timing import hand_written
from experiments.timing.workloads import CASES
from jaxmeta import make_step, training

QUICK = ["--meta-batch", "4", "--seconds", "0.001", "--rounds", "1"]


def run(out, *flags):
    return throughput.main([*QUICK, "--out", str(out), *flags])


@pytest.mark.slow
def test_a_row_says_what_was_measured(tmp_path, capsys):
    assert run(tmp_path, "--case", "sinusoid_maml", "hypernet", "--inner-steps", "2") == 0
    document = json.loads((tmp_path / "throughput.json").read_text())
    maml, hypernet = document["rows"]
    assert (maml["case"], maml["meta_batch"], maml["inner_steps"]) == ("sinusoid_maml", 4, 2)
    assert maml["inner_steps_per_s"] == pytest.approx(2 * maml["tasks_per_s"])
    assert maml["tasks_per_s"] == pytest.approx(4e3 / maml["ms_median"])
    # 4 tasks of 10 rows in two passes of 9 and one of 3, 3,360 operations a row.
    assert maml["flops_by_hand"] == 4 * 10 * (2 * 9 + 3) * 3360
    assert maml["to_hand_written"] > 0 and "to_hand_written" not in hypernet
    assert document["machine"]["peak_gflops"] > 0 and (tmp_path / "throughput.png").exists()
    assert "sinusoid_maml" in capsys.readouterr().out


def test_a_slower_row_is_flagged(tmp_path, capsys):
    row = {"case": "a", "meta_batch": 1, "inner_steps": 0, "share_of_peak": 0.5}
    by_hand = row | {"case": "b", "to_hand_written": 1.0}
    slower = [row | {"share_of_peak": 0.4}, by_hand | {"to_hand_written": 1.3}]
    assert throughput.regressions([row, by_hand], [row, by_hand]) == []
    assert throughput.regressions(slower, [row, by_hand]) == [
        "a, 1 tasks, 0 inner steps: 1.25 times slower than the baseline",
        "b, 1 tasks, 0 inner steps: 1.30 times slower than the baseline",
    ]
    assert throughput.regressions(slower, []) == []


@pytest.mark.parametrize(
    ("name", "num_tasks", "steps"), [("sinusoid_maml", 25, 1), ("conv4_maml", 4, 1)]
)
def test_the_abstraction_costs_no_operations(name, num_tasks, steps):
    """Against the step by hand: the same count of operations to 1%.

    Counted as handed to XLA, so that what is written twice counts twice. A compiled program also
    counts what XLA computes again in its fusions: 1 to 3% here, by version and by flags.
    """
    case, tx = CASES[name](num_tasks, steps), optax.adam(1e-3)
    task = jax.tree.map(lambda leaf: leaf[0], case.batch)
    state = training.init(case.learner, tx, jax.random.key(0), task)
    ours = jax.jit(make_step(case.loss_fn, tx, tasks_per_chunk=1))
    by_hand = jax.jit(hand_written.make_step(hand_written.task_loss_of(name, steps), tx, 1))
    counts = [
        lowered.cost_analysis()["flops"]
        for lowered in (
            ours.lower(state, case.batch),
            by_hand.lower(state.theta, state.opt_state, case.batch),
        )
    ]
    assert counts[0] == pytest.approx(counts[1], rel=0.01)
