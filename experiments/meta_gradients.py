"""What one outer step through the inner loop costs, for every way to differentiate it.

Question: bytes and seconds of the meta-gradient of 25 sinusoids, in a perceptron of three layers,
  against the number of inner steps; and how far the estimates point from the exact gradient.
Command: python -m experiments.meta_gradients
Expected: at 100 steps `remat` and `mixed` need at most 0.6 of the memory of `full`, `nested` and
  `nested_mixed` a quarter, all in at most 1.6 of its time; `implicit` does not grow with the steps.
Time: five minutes on 2 CPU cores, nearly all of it compilation.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np
import optax

from experiments import plots
from experiments.command_line import in_a_sentence, parse
from experiments.documents import write_json
from experiments.regressors import body
from experiments.training_loop import cache_compilations
from jaxmeta import inner, learners, losses, meta_objective, sample_tasks, tasks, transforms

# The proximal term is that of iMAML: without it a start has no say in where a descent ends.
RATE, PROXIMITY = 0.002, 5.0
MODES: dict[str, inner.Differentiate] = {
    **{name: name for name in get_args(get_args(inner.Differentiate)[0])},
    "truncated": inner.Truncated(last=5),
    "evolution": inner.Evolution(num_pairs=16),
}
COLUMNS = ("steps", "mode", "MB", "MB/full", "ms", "least ms", "ms/full", "compile s", "cosine")


def meta_gradient(mode: str, num_steps: int) -> Callable[..., Any]:
    """`(theta, tasks, keys) -> gradient in theta` of the mean loss after adaptation."""
    learner = transforms.fine_tune(
        learners.learned_init(body()),
        losses.squared_error,
        optax.sgd(RATE),
        num_steps,
        differentiate=MODES[mode],
        proximity=PROXIMITY,
    )
    loss_fn = meta_objective(learner, losses.squared_error)

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


def show(row: dict[str, Any]) -> None:
    """One line of the table."""
    print(
        f"{row['steps']:>5}  {row['mode']:<13}{row['temp_bytes'] / 1e6:>8.2f}"
        f"{row['temp_bytes_to_full']:>9.2f}{1e3 * row['seconds']:>10.2f}"
        f"{1e3 * row['least_seconds']:>10.2f}{row['least_seconds_to_full']:>9.2f}"
        f"{row['compile_seconds']:>11.1f}{row['cosine']:>8.3f}",
        flush=True,
    )


@in_a_sentence
def main(arguments: list[str] | None = None) -> int:
    """Print and write the table, and draw it."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.meta_gradients",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 10, 30, 100, 300])
    parser.add_argument("--mode", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--tasks", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=9, help="runs behind each median")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/meta_gradients"))
    options = parse(parser, arguments, least={"steps": 1})
    options.out.mkdir(parents=True, exist_ok=True)
    # All ratios are to "full", asked for or not.
    modes = list(dict.fromkeys(["full", *options.mode]))
    theta_key, task_key, noise_key = jax.random.split(jax.random.key(options.seed), 3)
    batch = sample_tasks(tasks.sinusoids(), task_key, options.tasks)
    theta = learners.learned_init(body()).init(theta_key, jax.tree.map(lambda x: x[0], batch))
    inputs = (theta, batch, jax.random.split(noise_key, options.tasks))
    print("{:>5}  {:<13}{:>8}{:>9}{:>10}{:>10}{:>9}{:>11}{:>8}".format(*COLUMNS))
    rows: list[dict[str, Any]] = []
    for num_steps in options.steps:
        rows += measure(num_steps, modes, inputs, options.rounds)
        for row in rows[-len(modes) :]:
            show(row)
    device = jax.devices()[0].device_kind
    config = {**vars(options), "rate": RATE, "proximity": PROXIMITY}
    document = {"config": config | {"device": device, "jax": jax.__version__}, "results": rows}
    write_json(options.out / "result.json", document)
    title = f"One meta-gradient of {options.tasks} tasks, 1-40-40-1 perceptron, on {device}"
    plots.cost_of_modes(rows, options.out / "meta_gradients.png", title=title)
    return 0


if __name__ == "__main__":
    cache_compilations()
    sys.exit(main())
