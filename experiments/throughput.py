"""Throughput of outer steps, adaptation and prediction, and the share of the machine they use.

Claim: the library's outer step takes the time of the same mathematics written by hand.
Command: python -m experiments.throughput
Expected: the ratio to the hand-written step near 1 in each row that has one.
Time: about five minutes on 2 CPU cores, half of it compilation.

More:
  python -m experiments.throughput --case conv4_maml --meta-batch 4 32 --inner-steps 1 5
  python -m experiments.throughput --json now.json --baseline before.json
  python -m experiments.throughput --compare --peer-python ~/torch/bin/python
  python -m experiments.throughput --extend 1000 --rounds 7      # rows that join w one by one
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.command_line import flag, in_a_sentence, parse
from experiments.common.documents import measured_once, report
from experiments.common.run import begin
from experiments.timing import extending, hand_written, peer_process, plots
from experiments.timing.machine import machine, seconds_of
from experiments.timing.tables import ratios, read_rows, regressions, table
from experiments.timing.workloads import CASES, Case, shared_out
from jaxmeta import TrainState, make_step, training

CONTESTANTS = ("jax_vmap", *peer_process.LIBRARIES)
STDOUT = Path("-")
KEY = ("tasks_per_chunk", "dtype", "devices", "seconds", "rounds", "contestants", "seed")


@dataclass(frozen=True)
class Options:
    """The command line."""

    case: tuple[str, ...] = flag(tuple(CASES), choices=tuple(CASES))
    meta_batch: tuple[int, ...] | None = flag(None, "tasks of an outer step")
    inner_steps: tuple[int, ...] | None = None
    tasks_per_chunk: int | None = flag(None, "by default the library chooses")
    dtype: Literal["float32", "bfloat16"] = flag("float32", "of products")
    devices: int = flag(1, "devices that share the tasks of a batch")
    seconds: float = flag(1.0, "of each step in each round")
    rounds: int = flag(3, "nothing is trained: these are the steps", "--rounds", "--steps")
    compare: tuple[str, ...] | None = flag(
        None,
        "other libraries to time on the same arrays, all by default; those that are not installed, "
        "or have no such learner, are left out",
        nargs="*",
        choices=CONTESTANTS,
    )
    extend: int | None = flag(None, "time so many single rows that join w, and nothing else")
    peer_python: str = flag(sys.executable, "a Python that has those libraries")
    seed: int = flag(0, "of theta")
    resume: bool = flag(False, "go on from the rows in --out")
    json: Path | None = flag(
        None,
        "where the rows go, by default OUT/throughput.json; alone, they are printed as well",
        nargs="?",
        const=STDOUT,
    )
    baseline: Path | None = flag(None, "a file of an earlier run; slower rows make the exit code 1")
    out: Path = flag(Path("runs/throughput"), "folder for all that is written")

    @property
    def contestants(self) -> tuple[str, ...]:
        """The libraries to compare with: a bare `--compare` means all."""
        return CONTESTANTS if self.compare == () else self.compare or ()


def measure(
    name: str, num_tasks: int, steps: int, options: Options, peaks: dict[str, Any]
) -> dict[str, Any]:
    """One row: the library's step and all others take turns on the same arrays.

    Raises:
      ValueError: if their first losses differ.
    """
    case = shared_out(CASES[name](num_tasks, steps, jnp.dtype(options.dtype)), options.devices)
    tx = optax.adam(1e-3)
    task = jax.tree.map(lambda leaf: leaf[0], case.batch)
    state = training.init(case.learner, tx, jax.random.key(options.seed), task)
    step = make_step(case.loss_fn, tx, tasks_per_chunk=options.tasks_per_chunk)
    start = time.perf_counter()
    program = jax.jit(step).lower(state, case.batch).compile()
    row: dict[str, Any] = {"case": name, "meta_batch": num_tasks, "inner_steps": steps}
    row["compile_s"] = time.perf_counter() - start
    losses = {"library": program(state, case.batch)[1]["task_loss"]}
    turns = {"library": partial(seconds_of, lambda: program(state, case.batch))}
    if options.dtype == "float32":
        for who, call in hand_written_calls(name, steps, case, tx, state, options).items():
            losses[who], turns[who] = call()[2], partial(seconds_of, call)
    libraries = [who for who in options.contestants if who in peer_process.LIBRARIES]
    with peer_process.peers(
        name, steps, case, state.theta, libraries, options.peer_python
    ) as peers:
        for who, peer in peers.items():
            losses[who], turns[who] = peer.first["loss"], peer.seconds_of
        for who, loss in losses.items():
            if not np.allclose(losses["library"], loss, rtol=1e-3):
                raise ValueError(f"{name}: first loss {losses['library']}, and {loss} of {who}.")
        times: dict[str, list[float]] = {who: [] for who in turns}
        for _ in range(options.rounds):
            for who, turn in turns.items():
                times[who] += turn(options.seconds)
    return row | statistics_of(times, case, program, peaks) | inner_loop(case, state, task)


def hand_written_calls(name: str, steps: int, case: Case, tx, state: TrainState, options):
    """Steps written by hand, `() -> (theta, opt_state, loss)`, if there are any of this case.

    One in the better of two chunk sizes, or in the one that was asked for; for a comparison also
    what most would write: a plain convolution under `vmap` over all tasks.
    """
    if name not in hand_written.CASES:
        return {}
    task_loss = hand_written.task_loss_of(name, steps)

    def call(task_loss: Callable, size: int) -> Callable[[], Any]:
        program = jax.jit(hand_written.make_step(task_loss, tx, size))
        compiled = program.lower(state.theta, state.opt_state, case.batch).compile()
        return lambda: compiled(state.theta, state.opt_state, case.batch)

    num_tasks = len(case.batch.query.mask)
    sizes = {options.tasks_per_chunk} if options.tasks_per_chunk else {1, num_tasks}
    ours = [call(task_loss, size) for size in sizes]
    calls = {"hand": min(ours, key=lambda each: min(seconds_of(each, 0.3)))}
    if "jax_vmap" in options.contestants:
        plain = hand_written.task_loss_of(name, steps, hand_written.plain_convolution)
        calls["jax_vmap"] = call(plain, num_tasks)
    return calls


def statistics_of(times, case: Case, program, peaks: dict[str, Any]) -> dict[str, Any]:
    """What the durations and the compiled program say."""
    ms = 1e3 * np.asarray(times["library"])
    median, num_tasks = float(np.median(ms)), len(case.batch.query.mask)
    memory, cost = program.memory_analysis(), program.cost_analysis() or {}
    row = {
        "ms_median": median,
        "ms_spread": float(np.subtract(*np.percentile(ms, [75, 25])) / 2),
        "ms_min": float(ms.min()),
        "tasks_per_s": 1e3 * num_tasks / median,
        "gflops": case.flops / median / 1e6,
        "flops_by_hand": case.flops,
        # Both counts take the body of a loop once: their ratio is what means something.
        "flops_per_byte": cost["flops"] / cost["bytes accessed"] if cost else None,
        "share_of_peak": case.flops / median / 1e6 / peaks["peak_gflops"],
        "peak_mb": (memory.temp_size_in_bytes + memory.argument_size_in_bytes) / 1e6,
    }
    medians = {who: 1e3 * statistics.median(seconds) for who, seconds in times.items()}
    if "hand" in medians:
        row["to_hand_written"] = median / medians.pop("hand")
    return row | {"peers": {who: ms for who, ms in medians.items() if who != "library"}}


def inner_loop(case: Case, state: TrainState, task: Any) -> dict[str, float]:
    """The learner alone: one task's adaptation, and one row's prediction, alone and of 1,000."""
    theta = state.theta
    adapt = jax.jit(lambda support, text: case.learner.adapt(theta, support, description=text))
    w = jax.block_until_ready(adapt(task.support, task.description))
    predict = jax.jit(lambda x: case.learner.predict(theta, w, x))
    times = [min(seconds_of(lambda: adapt(task.support, task.description), 0.2))]
    for rows in (1, 1000):
        x = jnp.resize(task.query.x, (rows, *task.query.x.shape[1:]))
        jax.block_until_ready(predict(x))
        times.append(min(seconds_of(lambda x=x: predict(x), 0.2)) / rows)
    return {"adapt_ms": 1e3 * times[0], "predict_us_1": 1e6 * times[1]} | {
        "predict_us_1000": 1e6 * times[2]
    }


def measure_all(options: Options, peaks: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each case, number of tasks and number of inner steps that was asked for."""
    rows = []
    for name in options.case:
        usual = CASES[name](1, 1)
        counts = options.inner_steps if usual.inner_steps != (0,) else None
        for num_tasks in options.meta_batch or usual.meta_batches:
            for steps in counts or usual.inner_steps:
                row = measured_once(
                    options.out / "rows.jsonl",
                    [name, num_tasks, steps, *(getattr(options, each) for each in KEY)],
                    partial(measure, name, num_tasks, steps, options, peaks),
                )
                rows.append(row)
                if steps:
                    rows[-1]["inner_steps_per_s"] = steps * rows[-1]["tasks_per_s"]
                sys.stderr.write(table(rows[-1:]) + "\n")
    return rows


@in_a_sentence
def main(arguments: list[str] | None = None) -> int:
    """Measure, print, draw, compare."""
    options = parse(Options, arguments, experiment="throughput", description=__doc__)
    begin(options.out, go_on=options.resume)
    before = read_rows(options.baseline) if options.baseline else None
    peaks = machine(jnp.dtype(options.dtype))
    printed = options.json == STDOUT
    path = options.json if options.json and not printed else options.out / "throughput.json"
    if options.extend is not None:
        rows = extending.measure(options.extend, options.rounds)
        document = {"machine": peaks, "num_rows": options.extend, "rows": rows}
        report(document, extending.as_text(rows, options.extend), path=path, as_json=printed)
        return 0
    rows = measure_all(options, peaks)
    document = {"machine": peaks, "dtype": options.dtype, "rows": rows}
    plots.roofline(rows, peaks, options.out / "throughput.png")
    lines = [
        f"Peak of a matrix product {peaks['peak_gflops']:.0f} GFLOP/s, "
        f"of a copy {peaks['gbytes_per_s']:.1f} GB/s",
        table(rows),
    ]
    if options.contestants:
        lines += ["\nTimes as long as this library takes:", ratios(rows)]
    slower = regressions(rows, before or [])
    if before is not None:
        lines.append("\n".join(slower) or f"No row is slower than in {options.baseline}.")
    report(document, "\n".join(lines), path=path, as_json=printed)
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
