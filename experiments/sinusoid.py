"""Regression of sinusoids from ten points: gradient, amortised and closed-form learners.

Claim: after five inner steps MAML has at most a tenth of the error of a network that was trained
  on all tasks pooled and then fine-tuned, whatever step size that one is given.
Command: python -m experiments.sinusoid
Expected: the table in experiments/sinusoids/RESULTS.md.
Time: about ten minutes on 2 CPU cores; `--learner maml transfer` alone, one.
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.command_line import as_settings, flag, in_a_sentence, parse
from experiments.common.documents import numbers, plus_minus, report
from experiments.common.documents import table as as_table
from experiments.common.placement import Devices, Placement, device_flags, start
from experiments.common.run import Training, begin, run
from experiments.common.training_loop import cache_compilations, skip_faults
from experiments.sinusoids import plots
from experiments.sinusoids.learners import INNER_STEPS, error, errors, predictions, rivals
from jaxmeta import TrainState, meta_objective, sample_tasks, tasks
from jaxmeta.evaluation import interval95

MOST_STEPS = 100
SHOWN = (0, 1, 2, 5, 10, 20, 50, 100)
# The pooled network may choose its step size, on validation tasks, for each number of steps.
TEST_RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)


@dataclass(frozen=True)
class Options:
    """The command line."""

    learner: tuple[str, ...] = flag(tuple(rivals()), choices=tuple(rivals()))
    steps: int = flag(10_000, "outer steps")
    tasks_per_step: int = 25
    eval_tasks: int = 1000
    seed: int = 0
    resume: bool = flag(False, "go on from the states in --out")
    json: bool = flag(False, "print result.json to standard output")
    out: Path = flag(Path("runs/sinusoid"), "folder for all that is written")
    placement: Devices = device_flags()


def train_rival(
    name: str, options: Options, placement: Placement | None = None
) -> tuple[TrainState, float]:
    """Meta-train one learner; seconds included."""
    rival = rivals()[name]
    learner = rival.build()
    loss_fn = rival.loss_fn and rival.loss_fn(options.steps)
    # A descent from a start that nobody has learnt yet may end anywhere, infinity included.
    adam = optax.adam(optax.cosine_decay_schedule(rival.rate, max(1, options.steps)))
    tx = skip_faults(optax.chain(optax.clip_by_global_norm(10.0), adam))
    loss_fn = loss_fn or meta_objective(learner, error)
    return run(
        Training(learner, loss_fn, tasks.sinusoids(), tx),
        name=name,
        config={each: getattr(options, each) for each in ("steps", "seed", "tasks_per_step")},
        seed=options.seed,
        num_steps=options.steps,
        tasks_per_step=options.tasks_per_step,
        out=options.out,
        go_on=options.resume,
        placement=placement,
        log_every=math.gcd(options.steps, 500),
    )


def judge(name: str, theta: Any, options: Options) -> dict[str, Any]:
    """Mean and interval over the test tasks, which are the same for every learner."""
    rival, row = rivals()[name], {}
    sampler = tasks.sinusoids(queries=50)
    test_key, validation_key = jax.random.split(jax.random.key(options.seed + 1))
    batch = sample_tasks(sampler, test_key, options.eval_tasks)
    if name == "transfer":
        validation = sample_tasks(sampler, validation_key, max(1, options.eval_tasks // 4))
        means = errors(rival, theta, validation, MOST_STEPS, TEST_RATES).mean(axis=1)
        best = np.where(np.isfinite(means), means, np.inf).argmin(axis=0)
        row["rates"] = [TEST_RATES[i] for i in best]
        each = np.asarray(errors(rival, theta, batch, MOST_STEPS, TEST_RATES), np.float64)
        per_task = each[best, :, np.arange(len(best))].T
    else:
        per_task = np.asarray(errors(rival, theta, batch, MOST_STEPS), np.float64)
    # A descent that diverges on some task has no mean: null in the file, a gap in the plot.
    finite = [values if np.isfinite(values).all() else values * np.nan for values in per_task.T]
    row["error"] = [float(values.mean()) for values in finite]
    row["ci95"] = [interval95(values) for values in finite]
    return row | {"learner": name, "num_tasks": len(per_task), "seed": options.seed}


def table(rows: list[dict[str, Any]]) -> str:
    """The error after some numbers of inner steps, and the least of all, as text."""
    lines = []
    for row in rows:
        means, last = numbers(row["error"]), len(row["error"])
        best = int(np.where(np.isfinite(means), means, np.inf).argmin())
        known = {k for k in SHOWN if 1 < last > k and np.isfinite(means[k])}
        cells = {f"{k} steps": f"{means[k]:.4f}" if k in known else "-" for k in SHOWN}
        least = plus_minus(means[best], numbers(row["ci95"])[best], scale=1.0, digits=4)
        at = str(best) if last > 1 and np.isfinite(means[best]) else "-"
        cells |= {"least": least, "at": at, "seconds": f"{row['seconds']:.0f}"}
        lines.append({"learner": row["learner"]} | cells)
    return as_table(lines)


def verdict(rows: list[dict[str, Any]]) -> str:
    """The claim in one sentence, where both sides of it were run."""
    curves = {row["learner"]: numbers(row["error"]) for row in rows}
    if not {"maml", "transfer"} <= curves.keys():
        return ""
    ours, theirs = curves["maml"][INNER_STEPS], curves["transfer"]
    if not np.isfinite([ours, theirs[INNER_STEPS]]).all():
        return f"A descent of {INNER_STEPS} inner steps diverges: there is nothing to compare."
    return (
        f"MAML after {INNER_STEPS} inner steps has {ours / theirs[INNER_STEPS]:.3f} of the error "
        f"of transfer after {INNER_STEPS}, and {ours / np.nanmin(theirs):.3f} of its least "
        f"(after {np.nanargmin(theirs)})."
    )


def draw(rows: list[dict[str, Any]], thetas: dict[str, Any], options: Options) -> None:
    """The curves, and one test task as the first learners of the list see it."""
    task = sample_tasks(tasks.sinusoids(), jax.random.key(options.seed + 2), 1)
    task = jax.tree.map(lambda leaf: leaf[0], task)
    x = jnp.linspace(-5.0, 5.0, 200)[:, None]
    amplitude, phase = task.description
    functions = {"true": np.asarray(amplitude * jnp.sin(x - phase))}
    for name in [name for name in ("maml", "transfer") if name in thetas] or list(thetas)[:1]:
        z = np.asarray(predictions(rivals()[name], thetas[name], task, x, MOST_STEPS)[..., :1])
        if len(z) > 1:
            functions[f"{name}, before"] = z[0]
        functions[f"{name}, after"] = z[min(INNER_STEPS, len(z) - 1)]
    plots.regression(
        rows, np.asarray(x), functions, task.support, options.out / "sinusoid.png", INNER_STEPS
    )


@in_a_sentence
def main(arguments: list[str] | None = None) -> int:
    """Train, judge, print and draw."""
    options = parse(Options, arguments, experiment="sinusoid", description=__doc__)
    placement = start(options.placement)
    begin(options.out, go_on=options.resume)
    leads = jax.process_index() == 0
    rows, thetas = [], {}
    for name in dict.fromkeys(options.learner):
        state, seconds = train_rival(name, options, placement)
        thetas[name] = state.theta
        if leads:
            rows.append(judge(name, state.theta, options) | {"seconds": seconds})
    if leads:
        conclude(rows, thetas, options)
    placement.wait()
    return 0


def conclude(rows: list[dict[str, Any]], thetas: dict[str, Any], options: Options) -> None:
    """Write, draw and print the results."""
    draw(rows, thetas, options)
    head = f"Squared error on {options.eval_tasks} unseen tasks, ten support rows each:"
    text = "\n".join([head, table(rows), verdict(rows)])
    document = {"config": as_settings(options), "results": rows}
    report(document, text, path=options.out / "result.json", as_json=options.json)


if __name__ == "__main__":
    cache_compilations()
    sys.exit(main())
