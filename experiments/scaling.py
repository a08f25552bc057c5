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

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax

from experiments import devices, plots
from experiments.command_line import in_a_sentence, parse
from experiments.documents import write_json
from experiments.throughput import seconds_of
from experiments.training_loop import cache_compilations
from experiments.workloads import CASES, Case
from jaxmeta import make_step, parallel, training
from jaxmeta.sharing import check_divides

MODEL_DEVICES = (8, 64, 1024)


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


def measure(name: str, kind: str, count: int, options: argparse.Namespace) -> dict[str, Any]:
    """One row: the median time of a step on `count` devices."""
    on_one = options.tasks or CASES[name](1, options.inner_steps).meta_batches[0]
    num_tasks = on_one * (count if kind == "weak" else max(options.devices))
    check_divides(count, num_tasks)
    case = CASES[name](num_tasks, options.inner_steps)
    step, state, batch = prepared(case, count, options)
    state, _ = jax.block_until_ready(step(state, batch))

    def call() -> Any:
        nonlocal state  # the step consumes it
        state, metrics = step(state, batch)
        return state, metrics

    ms = 1e3 * statistics.median(seconds_of(call, options.seconds))
    row = {"case": name, "scaling": kind, "devices": count, "tasks": num_tasks, "ms": ms}
    return row | {"tasks_per_s": 1e3 * num_tasks / ms}


def prepared(case: Case, count: int, options: argparse.Namespace):
    """`(step, state, tasks)` on the first `count` devices."""
    flags = device_flags(count, options)
    tx = optax.adam(1e-3)
    task = jax.tree.map(lambda leaf: leaf[0], case.batch)
    state = training.init(case.learner, tx, jax.random.key(0), task)
    step = devices.compiled(make_step(case.loss_fn, tx), flags)
    batch = parallel.shard_tasks(case.batch, parallel.task_mesh(count))
    return step, devices.placed(state, flags), batch


def device_flags(count: int, options: argparse.Namespace) -> argparse.Namespace:
    """What `experiments.devices` reads, for `count` devices of this process."""
    flags = argparse.ArgumentParser()
    devices.add_flags(flags)
    return flags.parse_args(["--parallel", options.parallel, "--devices", str(count)])


def with_efficiency(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each row with its rate over that of as many single devices."""
    found = []
    for row in rows:
        same = [each for each in rows if each["case"] == row["case"]]
        one = next(each for each in same if each["scaling"] == row["scaling"])
        ideal = one["tasks_per_s"] * row["devices"] / one["devices"]
        found.append(row | {"efficiency": row["tasks_per_s"] / ideal})
    return found


def model(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
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
    head = "".join(f"{name:>22}" for name in rows[0])
    lines = [
        "".join(f"{f'{v:,.4g}' if isinstance(v, float) else v:>22}" for v in row.values())
        for row in rows
    ]
    return "\n".join([head, *lines])


@in_a_sentence
def main(arguments: list[str] | None = None) -> int:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--case", nargs="+", choices=list(CASES), default=["sinusoid_maml", "prototypes"])
    add("--devices", type=int, nargs="+", default=[1, 2, 4, 8], help="numbers of them")
    add("--parallel", choices=("pmap", "shard"), default="shard")
    add("--tasks", type=int, help="on each device; in all, as many as the most devices then have")
    add("--inner-steps", type=int, default=1, help="of the cases that descend")
    add("--seconds", type=float, default=2.0, help="for each row")
    add("--out", type=Path, default=Path("runs/scaling"))
    options = parse(parser, arguments)
    options.devices = sorted(set(options.devices))
    devices.start(device_flags(options.devices[-1], options))
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in options.case:
        for kind in ("weak", "strong"):
            rows += [measure(name, kind, count, options) for count in options.devices]
    rows = with_efficiency(rows)
    on_paper = [row for name in options.case for row in model(name, options)]
    document = {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "rows": rows,
        "model": on_paper,
        "accelerator": ACCELERATOR._asdict(),
    }
    write_json(options.out / "result.json", document)
    plots.scaling(rows, options.out / "scaling.png")
    print(f"{jax.device_count()} devices ({document['device']}), {options.parallel}:")
    print(table(rows), "\nOn paper:", table(on_paper), sep="\n")
    return 0


if __name__ == "__main__":
    cache_compilations()
    sys.exit(main())
