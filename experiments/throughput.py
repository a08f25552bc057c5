"""Throughput of outer steps, adaptation and prediction, and the share of the machine they use.

Claim: the library's outer step takes the time of the same mathematics written by hand.
Command: python -m experiments.throughput
Expected: the ratio to the hand-written step near 1 in each row that has one.
Time: about five minutes on 2 CPU cores, half of it compilation.

More:
  python -m experiments.throughput --case conv4_maml --meta-batch 4 32 --inner-steps 1 5
  python -m experiments.throughput --json now.json --baseline before.json
  python -m experiments.throughput --compare --peer-python ~/torch/bin/python
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import comparison, hand_written, plots
from experiments.command_line import in_a_sentence, parse
from experiments.documents import write_json
from experiments.throughput_tables import ratios, read_rows, regressions, table
from experiments.workloads import CASES, Case, shared_out
from jaxmeta import TrainState, make_step, training

CONTESTANTS = ("jax_vmap", *comparison.LIBRARIES)


def seconds_of(call: Callable[[], Any], budget: float, most: int = 200) -> list[float]:
    """Durations of a call, repeated for `budget` seconds, twice at the least."""
    times: list[float] = []
    while len(times) < 2 or (sum(times) < budget and len(times) < most):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return times


def machine(dtype: Any) -> dict[str, Any]:
    """What the numbers were measured on, with its peaks: of a matrix product, and of a copy."""
    square = jnp.ones((2048, 2048), dtype)
    product = jax.jit(lambda a: a @ a)
    long = jnp.ones(2**26, jnp.float32)
    add = jax.jit(lambda a: a + 1.0)
    jax.block_until_ready((product(square), add(long)))
    return {
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "cpu": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "peak_gflops": 2 * 2048**3 / min(seconds_of(lambda: product(square), 1.0)) / 1e9,
        "gbytes_per_s": 2 * long.nbytes / min(seconds_of(lambda: add(long), 1.0)) / 1e9,
    }


def measure(name: str, num_tasks: int, steps: int, options: argparse.Namespace) -> dict[str, Any]:
    """One row: the library's step and all others take turns on the same arrays.

    Raises:
      ValueError: if their first losses differ.
    """
    case = shared_out(CASES[name](num_tasks, steps, options.dtype), options.devices)
    tx = optax.adam(1e-3)
    task = jax.tree.map(lambda leaf: leaf[0], case.batch)
    state = training.init(case.learner, tx, jax.random.key(0), task)
    step = make_step(case.loss_fn, tx, tasks_per_chunk=options.tasks_per_chunk)
    start = time.perf_counter()
    program = jax.jit(step).lower(state, case.batch).compile()
    row: dict[str, Any] = {"case": name, "meta_batch": num_tasks, "inner_steps": steps}
    row["compile_s"] = time.perf_counter() - start
    losses = {"library": program(state, case.batch)[1]["task_loss"]}
    turns = {"library": partial(seconds_of, lambda: program(state, case.batch))}
    if options.dtype == jnp.float32:
        for who, call in hand_written_calls(name, steps, case, tx, state, options).items():
            losses[who], turns[who] = call()[2], partial(seconds_of, call)
    libraries = [who for who in options.compare or () if who in comparison.LIBRARIES]
    with comparison.peers(name, steps, case, state.theta, libraries, options.peer_python) as peers:
        for who, peer in peers.items():
            losses[who], turns[who] = peer.first["loss"], peer.seconds_of
        for who, loss in losses.items():
            if not np.allclose(losses["library"], loss, rtol=1e-3):
                raise ValueError(f"{name}: first loss {losses['library']}, and {loss} of {who}.")
        times: dict[str, list[float]] = {who: [] for who in turns}
        for _ in range(options.rounds):
            for who, turn in turns.items():
                times[who] += turn(options.seconds)
    return row | statistics_of(times, case, program, options) | inner_loop(case, state, task)


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
    if "jax_vmap" in (options.compare or ()):
        plain = hand_written.task_loss_of(name, steps, hand_written.plain_convolution)
        calls["jax_vmap"] = call(plain, num_tasks)
    return calls


def statistics_of(times, case: Case, program, options: argparse.Namespace) -> dict[str, Any]:
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
        "share_of_peak": case.flops / median / 1e6 / options.machine["peak_gflops"],
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


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.throughput",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--case", nargs="+", choices=list(CASES), default=list(CASES))
    add("--meta-batch", type=int, nargs="+", help="tasks of an outer step")
    add("--inner-steps", type=int, nargs="+")
    add("--tasks-per-chunk", type=int, help="by default the library chooses")
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="of products")
    add("--devices", type=int, default=1, help="devices that share the tasks of a batch")
    add("--seconds", type=float, default=1.0, help="of each step in each round")
    add("--rounds", type=int, default=3)
    add(
        "--compare",
        nargs="*",
        choices=CONTESTANTS,
        help="other libraries to time on the same arrays, all by default; those that are not "
        "installed, or have no such learner, are left out",
    )
    add("--peer-python", default=sys.executable, help="a Python that has those libraries")
    add("--json", type=Path, help="where the rows go; by default OUT/throughput.json")
    add("--baseline", type=Path, help="a file of an earlier run; slower rows make the exit code 1")
    add("--out", type=Path, default=Path("runs/throughput"))
    options = parse(parser, arguments)
    options.dtype = jnp.dtype(options.dtype)
    if options.compare == []:
        options.compare = CONTESTANTS
    return options


def measure_all(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each case, number of tasks and number of inner steps that was asked for."""
    rows = []
    for name in options.case:
        usual = CASES[name](1, 1)
        counts = options.inner_steps if usual.inner_steps != (0,) else None
        for num_tasks in options.meta_batch or usual.meta_batches:
            for steps in counts or usual.inner_steps:
                rows.append(measure(name, num_tasks, steps, options))
                if steps:
                    rows[-1]["inner_steps_per_s"] = steps * rows[-1]["tasks_per_s"]
                sys.stderr.write(table(rows[-1:]).splitlines()[1] + "\n")
    return rows


@in_a_sentence
def main(arguments: list[str] | None = None) -> int:
    """Measure, print, draw, compare."""
    options = parse_arguments(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    before = read_rows(options.baseline) if options.baseline else None
    options.machine = machine(options.dtype)
    rows = measure_all(options)
    document = {"machine": options.machine, "dtype": options.dtype, "rows": rows}
    write_json(options.json or options.out / "throughput.json", document)
    plots.roofline(rows, options.machine, options.out / "throughput.png")
    print("Peak of a matrix product {peak_gflops:.0f} GFLOP/s".format(**options.machine), end="")
    print(", of a copy {gbytes_per_s:.1f} GB/s".format(**options.machine))
    print(table(rows))
    if options.compare:
        print("\nTimes as long as this library takes:\n" + ratios(rows))
    if before is None:
        return 0
    slower = regressions(rows, before)
    print("\n".join(slower) or f"No row is slower than in {options.baseline}.")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
