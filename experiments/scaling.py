"""Throughput of the outer step against the number of devices, and what communication leaves of it.

Question: how much of the ideal speed is left when more devices share the tasks of a step, with as
  many tasks on each device (weak scaling), or as many in all (strong scaling)?
Command: python -m experiments.scaling
Expected: on accelerators near 1; virtual devices of a CPU share its cores, so that beyond their
  number the rate of all stays what it is, and what it loses is what sharing costs.
Time: about three minutes on 2 CPU cores.

More:
  python -m experiments.scaling --devices 1 2 4 8 --case conv4_maml --parallel pmap

The second table is a model, no measurement: a ring all-reduce of the gradient after the compute
of each step, on accelerators whose figures stand in `ACCELERATOR`.
"""

import statistics
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import optax

from experiments.common.command_line import flag, in_a_sentence, parse
from experiments.common.documents import measured_once, report
from experiments.common.documents import table as as_table
from experiments.common.placement import Devices, place_on, start
from experiments.common.run import begin
from experiments.common.training_loop import cache_compilations
from experiments.timing import plots
from experiments.timing.machine import seconds_of
from experiments.timing.workloads import CASES, Case
from jaxmeta import make_step, parallel, training

MODEL_DEVICES = (8, 64, 1024)
KEY = ("parallel", "tasks", "inner_steps", "seconds", "steps", "seed")


@dataclass(frozen=True)
class Options:
    """The command line."""

    case: tuple[str, ...] = flag(("sinusoid_maml", "prototypes"), choices=tuple(CASES))
    devices: tuple[int, ...] = flag((1, 2, 4, 8), "numbers of them")
    parallel: Literal["pmap", "shard"] = "shard"
    tasks: int | None = flag(None, "on each device; in all, as many as the most devices then have")
    inner_steps: int = flag(1, "of the cases that descend")
    seconds: float = flag(2.0, "for each row")
    steps: int = flag(200, "outer steps of each row at the most")
    seed: int = flag(0, "of theta")
    resume: bool = flag(False, "go on from the rows in --out")
    json: bool = flag(False, "print result.json to standard output")
    out: Path = flag(Path("runs/scaling"), "folder for all that is written")


class Accelerator(NamedTuple):
    """What the model assumes of one device.

    Attributes:
      flops: operations a second that a step of the case reaches.
      bandwidth: bytes a second from one device to the next of the ring.
      latency: seconds of one message.
    """

    flops: float
    bandwidth: float
    latency: float


# A tenth of the dense float32 (TF32) rate of a current accelerator, and a network of 400 Gbit/s.
ACCELERATOR = Accelerator(flops=5e13, bandwidth=5e10, latency=5e-6)


def measure(name: str, kind: str, count: int, options: Options) -> dict[str, Any]:
    """One row: the median time of a step on `count` devices."""
    on_one = options.tasks or CASES[name](1, options.inner_steps).meta_batches[0]
    num_tasks = on_one * (count if kind == "weak" else max(options.devices))
    case = CASES[name](num_tasks, options.inner_steps)
    step, state, batch = prepared(case, count, options)
    state, _ = jax.block_until_ready(step(state, batch))

    def call() -> Any:
        nonlocal state  # the step consumes it
        state, metrics = step(state, batch)
        return state, metrics

    ms = 1e3 * statistics.median(seconds_of(call, options.seconds, options.steps))
    row = {"case": name, "scaling": kind, "devices": count, "tasks": num_tasks, "ms": ms}
    return row | {"tasks_per_s": 1e3 * num_tasks / ms}


def prepared(case: Case, count: int, options: Options):
    """`(step, state, tasks)` on the first `count` devices."""
    placement = place_on(options.parallel, count)
    tx = optax.adam(1e-3)
    task = jax.tree.map(lambda leaf: leaf[0], case.batch)
    state = training.init(case.learner, tx, jax.random.key(options.seed), task)
    step = placement.compile(make_step(case.loss_fn, tx))
    batch = parallel.shard_tasks(case.batch, parallel.task_mesh(count))
    return step, placement.place(state), batch


def with_efficiency(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each row with its rate over that of as many single devices."""
    found = []
    for row in rows:
        same = [each for each in rows if each["case"] == row["case"]]
        one = next(each for each in same if each["scaling"] == row["scaling"])
        ideal = one["tasks_per_s"] * row["devices"] / one["devices"]
        found.append(row | {"efficiency": row["tasks_per_s"] / ideal})
    return found


def model(name: str, options: Options) -> list[dict[str, Any]]:
    """Compute and communication of a step on many accelerators, on paper.

    A ring of P devices sends `2 (P - 1) / P` times the gradient's bytes through each of them, in
    `2 (P - 1)` messages one after the other.
    """
    case = CASES[name](1, options.inner_steps)
    task = jax.tree.map(lambda leaf: leaf[0], case.batch)
    theta = jax.eval_shape(case.learner.init, jax.random.key(0), task)
    num_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(theta))
    rows = []
    for count in MODEL_DEVICES:
        sent = 2 * (count - 1) / count * num_bytes
        communication = sent / ACCELERATOR.bandwidth + 2 * (count - 1) * ACCELERATOR.latency
        task_s = case.flops / ACCELERATOR.flops
        rows.append(
            {
                "case": name,
                "devices": count,
                "gradient_bytes": num_bytes,
                "flops_per_task": case.flops,
                "communication_us": 1e6 * communication,
                "compute_us_per_task": 1e6 * task_s,
                "tasks_for_90_percent": 9 * communication / task_s,
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of equal keys as text."""
    return as_table(
        [
            {name: f"{v:,.4g}" if isinstance(v, float) else str(v) for name, v in row.items()}
            for row in rows
        ]
    )


@in_a_sentence
def main(arguments: list[str] | None = None) -> int:
    """Measure, print, draw."""
    options = parse(Options, arguments, experiment="scaling", description=__doc__)
    counts = sorted(set(options.devices))
    start(Devices(options.parallel, counts[-1]))
    begin(options.out, go_on=options.resume)
    rows = []
    for name in options.case:
        for kind in ("weak", "strong"):
            for count in counts:
                rows.append(
                    measured_once(
                        options.out / "rows.jsonl",
                        [name, kind, count, max(counts), *(getattr(options, each) for each in KEY)],
                        partial(measure, name, kind, count, options),
                    )
                )
    rows = with_efficiency(rows)
    on_paper = [row for name in options.case for row in model(name, options)]
    document = {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "rows": rows,
        "model": on_paper,
        "accelerator": ACCELERATOR._asdict(),
    }
    head = f"{jax.device_count()} devices ({document['device']}), {options.parallel}:"
    text = "\n".join([head, table(rows), "\nOn paper:", table(on_paper)])
    plots.scaling(rows, options.out / "scaling.png")
    report(document, text, path=options.out / "result.json", as_json=options.json)
    return 0


if __name__ == "__main__":
    cache_compilations()
    sys.exit(main())
