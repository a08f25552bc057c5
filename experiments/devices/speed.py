"""How fast it is: formulations of the convolution, outer steps, chunks of tasks."""

import json
from collections.abc import Iterator
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import throughput
from experiments.common.documents import write_json
from experiments.devices.stages import Item, Row, Setting
from experiments.timing.machine import machine, seconds_of
from experiments.timing.workloads import CASES
from jaxmeta import make_step, training
from jaxmeta.networks import task_conv

FORMULATIONS = ("loop", "grouped", "patches")
# tasks, images, side, channels of x and of the result
SHAPES = (
    (32, 25, 28, 1, 64),
    (32, 25, 14, 64, 64),
    (32, 25, 84, 3, 32),
    (4, 25, 28, 1, 64),
    (32, 75, 42, 32, 32),
    (128, 25, 14, 64, 64),
    (32, 10, 8, 256, 256),
    (32, 25, 28, 8, 64),
    (32, 25, 28, 16, 64),
)
KEPT = (
    "case",
    "meta_batch",
    "inner_steps",
    "compile_s",
    "ms_median",
    "tasks_per_s",
    "gflops",
    "flops_per_byte",
    "share_of_peak",
    "peak_mb",
    "to_hand_written",
)
"""What a row of `throughput` is kept for: the report, and the picture of the roofline."""

SMALL_CASES = ("sinusoid_maml", "hypernet", "prototypes")
_SMALL_SHAPES = ((4, 5, 14, 1, 16), (4, 5, 7, 16, 16), (4, 5, 14, 4, 16))


def formulations(setting: Setting) -> Iterator[Item]:
    """Convolution and kernel gradient, each by every formulation, by shape and dtype."""
    for dtype in ("float32", "bfloat16"):
        for shape in _SMALL_SHAPES if setting.small else SHAPES:
            tasks, images, side, channels, features = shape
            for operation in ("conv", "kernel_grad"):
                name = f"{operation}, {dtype}, {tasks} x {images} x {side}x{side}x{channels}"
                yield Item(f"{name} to {features}", partial(formulation, operation, dtype, shape))


def formulation(operation: str, dtype: str, shape: tuple[int, ...]) -> Row:
    """Milliseconds by each formulation, and the best."""
    tasks, images, side, channels, features = shape
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(tasks, images, side, side, channels)), dtype)
    kernel = jnp.asarray(rng.normal(size=(tasks, 3, 3, channels, features)), dtype)
    y = jnp.asarray(rng.normal(size=(tasks, images, side, side, features)), dtype)
    row: Row = {"operation": operation, "channels": channels, "dtype": dtype, "tasks": tasks}
    for name in FORMULATIONS:
        conv = jax.vmap(partial(task_conv, formulation=name))
        call = jax.jit(conv)
        if operation == "kernel_grad":
            call = jax.jit(lambda x, k, conv=conv: jax.grad(lambda k: jnp.vdot(conv(x, k), y))(k))
        jax.block_until_ready(call(x, kernel))
        row[name] = 1e3 * min(seconds_of(lambda call=call: call(x, kernel), 0.1, 20))
    return row | {"best": min(FORMULATIONS, key=row.__getitem__)}


def rules(rows: list[Row]) -> dict[str, list[dict[str, Any]]]:
    """By operation: the number of channels up to which patches are best, and what is best beyond.

    The bound and the other formulation with the least sum of logarithms of the times in float32.
    """
    found = {}
    for operation in ("conv", "kernel_grad"):
        ours = [r for r in rows if r["operation"] == operation and r["dtype"] == "float32"]
        bounds = [0, *sorted({2 * row["channels"] for row in ours})]

        def cost(bound: int, other: str, ours: list[Row] = ours) -> float:
            chosen = [row["patches" if row["channels"] < bound else other] for row in ours]
            return float(np.log(chosen).sum())

        pairs = [(bound, other) for bound in bounds for other in FORMULATIONS]
        bound, other = min(pairs, key=lambda pair: cost(*pair))
        below = [{"channels_below": bound, "formulation": "patches"}] if bound else []
        found[operation] = [*below, {"channels_below": None, "formulation": other}]
    return found


def write_table(rows: list[Row]) -> Path:
    """Put the rules of this platform into the table in the package.

    Raises:
      ValueError: if nothing was measured for one of the operations.
    """
    measured = {row["operation"] for row in rows if row["dtype"] == "float32"}
    if measured != {"conv", "kernel_grad"}:
        raise ValueError("There is no table to write: the stage formulations measured too little.")
    path = Path(str(resources.files("jaxmeta.networks") / "formulations.json"))
    backend = jax.default_backend()
    backend = "gpu" if backend in ("cuda", "rocm") else backend
    write_json(path, json.loads(path.read_text()) | {backend: rules(rows)})
    return path


def outer_steps(setting: Setting) -> Iterator[Item]:
    """The cases of `throughput` by dtype and precision, beside the step written by hand."""
    sizes = {} if setting.small else {"sinusoid_maml": 4096, "hypernet": 8192}
    for dtype, precision in (("float32", None), ("float32", "highest"), ("bfloat16", None)):
        peaks: dict[str, Any] = {}
        for name in SMALL_CASES if setting.small else CASES:
            usual = CASES[name](1, 1)
            tasks = min(usual.meta_batches) if setting.small else sizes.get(name, 128)
            steps = usual.inner_steps[0]
            said = f"{name}, {tasks} tasks, {dtype}" + f", {precision}" * bool(precision)
            yield Item(said, partial(outer_step, name, tasks, steps, dtype, precision, peaks))


def outer_step(
    name: str, tasks: int, steps: int, dtype: Any, precision: str | None, peaks: dict[str, Any]
) -> Row:
    """What `throughput` measures of one case, and how far its loss is from float32 in full."""
    options = throughput.Options(dtype=dtype, seconds=0.3, rounds=2)
    with jax.default_matmul_precision(precision):
        if not peaks:
            peaks |= machine(jnp.dtype(dtype))
        row = throughput.measure(name, tasks, steps, options, peaks)
        loss = first_loss(name, tasks, steps, dtype)
    with jax.default_matmul_precision("highest"):
        exact = first_loss(name, tasks, steps, "float32")
    return {key: row.get(key) for key in KEPT} | {"loss_off": abs(loss - exact) / abs(exact)}


def first_loss(name: str, tasks: int, steps: int, dtype: Any) -> float:
    """Mean loss of the tasks before any outer step."""
    case = CASES[name](tasks, steps, jnp.dtype(dtype))
    task = jax.tree.map(lambda leaf: leaf[0], case.batch)
    theta = case.learner.init(jax.random.key(0), task)
    keys = jax.random.split(jax.random.key(1), tasks)
    losses = jax.jit(jax.vmap(lambda task, key: case.loss_fn(theta, task, key)[0]))
    return float(losses(case.batch, keys).mean())


def chunks(setting: Setting) -> Iterator[Item]:
    """Cases by the size of chunks that the outer gradient is taken in."""
    tasks = 8 if setting.small else 128
    for name in SMALL_CASES[:1] if setting.small else ("sinusoid_maml", "prototypes", "conv4_maml"):
        for size in (None, 1, 4, tasks):
            yield Item(f"{name}, {tasks} tasks, chunks {size}", partial(chunk, name, tasks, size))


def chunk(name: str, tasks: int, size: int | None) -> Row:
    """Milliseconds of an outer step in chunks of a size; None is what the library chooses."""
    case = CASES[name](tasks, 1)
    tx = optax.sgd(1e-3)
    task = jax.tree.map(lambda leaf: leaf[0], case.batch)
    state = training.init(case.learner, tx, jax.random.key(0), task)
    step = jax.jit(make_step(case.loss_fn, tx, tasks_per_chunk=size))
    compiled = step.lower(state, case.batch).compile()
    ms = 1e3 * min(seconds_of(lambda: compiled(state, case.batch), 0.3, 20))
    memory: Any = compiled.memory_analysis()
    return {"ms": ms, "temp_mb": memory.temp_size_in_bytes / 1e6}
