"""Throughput of outer steps, adaptation and prediction, and the share of the machine they use.

Claim: the library's outer step takes the time of the same mathematics written by hand.
Command: python -m experiments.throughput
Expected: the ratio to the hand-written step near 1 in each row that has one.
Time: about five minutes on 2 CPU cores, half of it compilation.

More:
  python -m experiments.throughput --case conv4_maml --meta-batch 4 32 --inner-steps 1 5
  python -m experiments.throughput --json now.json --baseline before.json
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from experiments import hand_written, plots
from experiments.workloads import CASES, Case
from jaxmeta import TrainState, make_step, training
from jaxmeta.files import write_atomically

COLUMNS = (
    ("case", "<14", "case"),
    ("meta_batch", ">6", "tasks"),
    ("inner_steps", ">6", "inner"),
    ("compile_s", ">10.1f", "compile s"),
    ("ms_median", ">10.2f", "ms/step"),
    ("ms_spread", ">8.2f", "+-"),
    ("tasks_per_s", ">10.1f", "tasks/s"),
    ("inner_steps_per_s", ">10.1f", "inner/s"),
    ("adapt_ms", ">9.3f", "adapt ms"),
    ("predict_us_1", ">8.1f", "us/row"),
    ("predict_us_1000", ">9.2f", "of 1,000"),
    ("gflops", ">8.1f", "GFLOP/s"),
    ("share_of_peak", ">7.1%", "peak"),
    ("peak_mb", ">8.1f", "MB"),
    ("to_hand_written", ">8.3f", "by hand"),
)
TOLERATED = 1.1  # of a ratio, before it counts as a regression


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


def cast(tree: Any, dtype: Any) -> Any:
    """Floating-point leaves as `dtype`; labels and masks stay."""
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree
    )


def place(case: Case, options: argparse.Namespace) -> Case:
    """The batch in the precision and on the devices that were asked for."""
    rows = [part._replace(x=cast(part.x, options.dtype)) for part in case.batch[:2]]
    batch = case.batch._replace(support=rows[0], query=rows[1])
    if options.devices > 1:
        mesh = jax.make_mesh((options.devices,), ("tasks",), axis_types=(AxisType.Auto,))
        batch = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("tasks")))
    return case._replace(batch=batch)


def measure(name: str, num_tasks: int, steps: int, options: argparse.Namespace) -> dict[str, Any]:
    """One row. The library's step and the hand-written one take turns on the same arrays."""
    case = place(CASES[name](num_tasks, steps), options)
    tx = optax.adam(1e-3)
    task = jax.tree.map(lambda leaf: leaf[0], case.batch)
    state = training.init(case.learner, tx, jax.random.key(0), task)
    step = make_step(case.loss_fn, tx, tasks_per_chunk=options.tasks_per_chunk)
    start = time.perf_counter()
    program = jax.jit(step).lower(state, case.batch).compile()
    row: dict[str, Any] = {"case": name, "meta_batch": num_tasks, "inner_steps": steps}
    row["compile_s"] = time.perf_counter() - start
    calls = {"library": lambda: program(state, case.batch)}
    by_hand = hand_written.task_loss_of(name, steps)
    if by_hand is not None and options.dtype == jnp.float32:
        calls["hand"] = hand_written_call(by_hand, case, tx, state, options.tasks_per_chunk)
        ours, theirs = calls["library"]()[1]["task_loss"], calls["hand"]()[2]
        if not np.allclose(ours, theirs, rtol=1e-4):
            raise ValueError(f"{name}: the first losses differ, {ours} and {theirs} by hand.")
    times: dict[str, list[float]] = {who: seconds_of(call, 0.0) for who, call in calls.items()}
    times = {who: [] for who in times}
    for _ in range(options.rounds):
        for who, call in calls.items():
            times[who] += seconds_of(call, options.seconds)
    return row | statistics_of(times, case, program, options) | inner_loop(case, state, task)


def hand_written_call(task_loss, case: Case, tx, state: TrainState, chunk: int | None):
    """The hand-written step in the better of two chunk sizes, or in the one that was asked for."""
    num_tasks = len(case.batch.query.mask)
    sizes = {chunk} if chunk else {1, num_tasks}
    programs = [
        jax.jit(hand_written.make_step(task_loss, tx, size))
        .lower(state.theta, state.opt_state, case.batch)
        .compile()
        for size in sizes
    ]
    calls = [lambda p=p: p(state.theta, state.opt_state, case.batch) for p in programs]
    return min(calls, key=lambda call: min(seconds_of(call, 0.3)))


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
        "bytes_accessed": cost.get("bytes accessed"),
        "share_of_peak": case.flops / median / 1e6 / options.machine["peak_gflops"],
        "peak_mb": (memory.temp_size_in_bytes + memory.argument_size_in_bytes) / 1e6,
    }
    if "hand" in times:
        row["to_hand_written"] = median / (1e3 * statistics.median(times["hand"]))
    return row


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


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    width = [int(spec[1:].split(".")[0]) for _, spec, _ in COLUMNS]
    lines = [" ".join(f"{t:{s[0]}{w}}" for (_, s, t), w in zip(COLUMNS, width, strict=True))]
    for row in rows:
        cells = [
            f"{row[key]:{spec}}" if row.get(key) is not None else f"{'-':{spec[0]}{w}}"
            for (key, spec, _), w in zip(COLUMNS, width, strict=True)
        ]
        lines.append(" ".join(cells))
    return "\n".join(lines)


def regressions(rows: list[dict[str, Any]], baseline: list[dict[str, Any]]) -> list[str]:
    """Rows that are slower than they were, measured against the machine of each run.

    By the ratio to the hand-written step where there is one, else by the share of the peak.
    """
    identity = ("case", "meta_batch", "inner_steps")
    before = {tuple(row[key] for key in identity): row for row in baseline}
    found = []
    for row in rows:
        old = before.get(tuple(row[key] for key in identity), {})
        if "to_hand_written" in row and "to_hand_written" in old:
            change = row["to_hand_written"] / old["to_hand_written"]
        elif old:
            change = old["share_of_peak"] / row["share_of_peak"]
        else:
            continue
        if change > TOLERATED:
            name = f"{row['case']}, {row['meta_batch']} tasks, {row['inner_steps']} inner steps"
            found.append(f"{name}: {change:.2f} times slower than the baseline")
    return found


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
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the inputs")
    add("--devices", type=int, default=1, help="devices that share the tasks of a batch")
    add("--seconds", type=float, default=1.0, help="of each step in each round")
    add("--rounds", type=int, default=3)
    add("--json", type=Path, help="where the rows go; by default OUT/throughput.json")
    add("--baseline", type=Path, help="a file of an earlier run; slower rows make the exit code 1")
    add("--out", type=Path, default=Path("runs/throughput"))
    options = parser.parse_args(arguments)
    options.dtype = jnp.dtype(options.dtype)
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, draw, compare."""
    options = parse_arguments(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    options.machine = machine(options.dtype)
    rows = []
    try:
        for name in options.case:
            usual = CASES[name](1, 1)
            counts = options.inner_steps if usual.inner_steps != (0,) else None
            for num_tasks in options.meta_batch or usual.meta_batches:
                for steps in counts or usual.inner_steps:
                    rows.append(measure(name, num_tasks, steps, options))
                    if steps:
                        rows[-1]["inner_steps_per_s"] = steps * rows[-1]["tasks_per_s"]
                    sys.stderr.write(table(rows[-1:]).splitlines()[1] + "\n")
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    document = {"machine": options.machine, "dtype": str(options.dtype), "rows": rows}
    path = options.json or options.out / "throughput.json"
    write_atomically(path, json.dumps(document, indent=1).encode())
    plots.roofline(rows, options.machine, options.out / "throughput.png")
    print("Peak of a matrix product {peak_gflops:.0f} GFLOP/s".format(**options.machine), end="")
    print(", of a copy {gbytes_per_s:.1f} GB/s".format(**options.machine))
    print(table(rows))
    if not options.baseline:
        return 0
    slower = regressions(rows, json.loads(options.baseline.read_text())["rows"])
    print("\n".join(slower) or f"No row is slower than in {options.baseline}.")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
