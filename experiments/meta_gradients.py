"""What one outer step through the inner loop costs, for every way to differentiate it.

Question: bytes and seconds of the meta-gradient of 25 sinusoids, in a perceptron of three layers,
  against the number of inner steps; and how far the estimates point from the exact gradient.
Command: python -m experiments.meta_gradients
Expected: at 100 steps `remat` and `mixed` need at most 0.6 of the memory of `full`, `nested` and
  `nested_mixed` a quarter, all in at most 1.6 of its time; `implicit` does not grow with the steps.
Time: five minutes on 2 CPU cores, nearly all of it compilation.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np
import optax
from tqdm import tqdm

from experiments.common.command_line import as_settings, flag, in_a_sentence, parse
from experiments.common.documents import measured_once, report
from experiments.common.documents import table as as_table
from experiments.common.run import begin
from experiments.common.training_loop import cache_compilations
from experiments.sinusoids import plots
from experiments.sinusoids.learners import body
from jaxmeta import inner, learners, losses, meta_objective, sample_tasks, tasks, transforms

# The proximal term is that of iMAML: without it a start has no say in where a descent ends.
RATE, PROXIMITY = 0.002, 5.0
MODES: dict[str, inner.Differentiate] = {
    **{name: name for name in get_args(get_args(inner.Differentiate)[0])},
    "truncated": inner.Truncated(last=5),
    "evolution": inner.Evolution(num_pairs=16),
}


@dataclass(frozen=True)
class Options:
    """The command line."""

    steps: tuple[int, ...] = flag((1, 10, 30, 100, 300), "inner steps: nothing is trained")
    mode: tuple[str, ...] = flag(tuple(MODES), choices=tuple(MODES))
    tasks: int = 25
    rounds: int = flag(9, "runs behind each median")
    seed: int = 0
    resume: bool = flag(False, "go on from the rows in --out")
    json: bool = flag(False, "print result.json to standard output")
    out: Path = flag(Path("runs/meta_gradients"), "folder for all that is written")


def meta_gradient(mode: str, num_steps: int) -> Callable[..., Any]:
    """`(theta, tasks, keys) -> gradient in theta` of the mean loss after adaptation."""
    learner = transforms.fine_tune(
        learners.learned_init(body()),
        losses.mean_squared_error,
        optax.sgd(RATE),
        num_steps,
        differentiate=MODES[mode],
        proximity=PROXIMITY,
    )
    loss_fn = meta_objective(learner, losses.mean_squared_error)

    def mean_loss(theta, tasks, keys):
        return jax.vmap(lambda task, key: loss_fn(theta, task, key)[0])(tasks, keys).mean()

    return jax.grad(mean_loss)


def measure(num_steps: int, modes: list[str], inputs: tuple, rounds: int) -> list[dict[str, Any]]:
    """One row a mode. The modes take turns, so that a busy machine is busy for all of them."""
    programs, rows = {}, {}
    for mode in modes:
        start = time.perf_counter()
        programs[mode] = jax.jit(meta_gradient(mode, num_steps)).lower(*inputs).compile()
        rows[mode] = {"steps": num_steps, "mode": mode}
        rows[mode]["compile_seconds"] = time.perf_counter() - start
        rows[mode]["temp_bytes"] = programs[mode].memory_analysis().temp_size_in_bytes
    gradients = {mode: flat(program(*inputs)) for mode, program in programs.items()}
    seconds: dict[str, list[float]] = {mode: [] for mode in modes}
    for _ in range(rounds):
        for mode, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(*inputs))
            seconds[mode].append(time.perf_counter() - start)
    exact = gradients["full"]
    for mode, row in rows.items():
        row["seconds"] = float(np.median(seconds[mode]))
        row["least_seconds"] = min(seconds[mode])
        norms = np.linalg.norm(gradients[mode]) * np.linalg.norm(exact)
        row["cosine"] = float(gradients[mode] @ exact / norms)
        for name in ("temp_bytes", "least_seconds"):
            row[f"{name}_to_full"] = row[name] / rows["full"][name]
    return list(rows.values())


def flat(tree: Any) -> np.ndarray:
    """All leaves as one vector."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(np.float64)


def table(rows: list[dict[str, Any]]) -> str:
    """The results as text."""
    return as_table(
        [
            {
                "mode": row["mode"],
                "steps": str(row["steps"]),
                "MB": f"{row['temp_bytes'] / 1e6:.2f}",
                "MB/full": f"{row['temp_bytes_to_full']:.2f}",
                "ms": f"{1e3 * row['seconds']:.2f}",
                "least ms": f"{1e3 * row['least_seconds']:.2f}",
                "ms/full": f"{row['least_seconds_to_full']:.2f}",
                "compile s": f"{row['compile_seconds']:.1f}",
                "cosine": f"{row['cosine']:.3f}",
            }
            for row in rows
        ]
    )


@in_a_sentence
def main(arguments: list[str] | None = None) -> int:
    """Print and write the table, and draw it."""
    options = parse(
        Options, arguments, experiment="meta_gradients", description=__doc__, least={"steps": 1}
    )
    begin(options.out, go_on=options.resume)
    # All ratios are to "full", asked for or not.
    modes = list(dict.fromkeys(["full", *options.mode]))
    theta_key, task_key, noise_key = jax.random.split(jax.random.key(options.seed), 3)
    batch = sample_tasks(tasks.sinusoids(), task_key, options.tasks)
    theta = learners.learned_init(body()).init(theta_key, jax.tree.map(lambda x: x[0], batch))
    inputs = (theta, batch, jax.random.split(noise_key, options.tasks))
    rows: list[dict[str, Any]] = []
    for num_steps in tqdm(options.steps, disable=None):
        rows += measured_once(
            options.out / "rows.jsonl",
            [num_steps, modes, options.tasks, options.rounds, options.seed],
            partial(measure, num_steps, modes, inputs, options.rounds),
        )
    device = jax.devices()[0].device_kind
    config = {**as_settings(options), "rate": RATE, "proximity": PROXIMITY}
    document = {"config": config | {"device": device, "jax": jax.__version__}, "results": rows}
    title = f"One meta-gradient of {options.tasks} tasks, 1-40-40-1 perceptron, on {device}"
    plots.cost_of_modes(rows, options.out / "meta_gradients.png", title=title)
    report(document, table(rows), path=options.out / "result.json", as_json=options.json)
    return 0


if __name__ == "__main__":
    cache_compilations()
    sys.exit(main())
