"""Accuracy against the density of what is emitted: learners, mechanisms, and one that is shipped.

Claim: on the embeddings of a trained encoder one training of each learner serves every density; a
  tenth of an embedding costs less than half a point; and an emitted learner of many classes that
  reads a twentieth of its inputs leaves as a NumPy file, many times smaller and faster.
Command: python -m experiments.sparsity_path --out DIR
  (and `--dataset omniglot --data-dir DIR --ways 20` for Omniglot)
Expected: the tables in experiments/README.md.
Time: a minute for each training on one CPU core, a quarter of an hour for a data set.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import plots
from experiments.command_line import in_a_sentence, parse
from experiments.documents import plus_minus, write_json
from experiments.embeddings import embedded, episodes
from experiments.sparse_learners import WHOLE_INPUTS, Entry, mechanisms, moved, path_learners
from experiments.training_loop import cache_compilations, resume, skip_faults, train
from jaxmeta import (
    Examples,
    MetaLearner,
    TrainState,
    checkpoint,
    evaluate,
    export,
    make_step,
    paired_difference,
    scan_steps,
    sparsity,
    training,
)
from jaxmeta.files import write_atomically
from jaxmeta.types import Sampler

SHARES = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01)
TASKS_PER_STEP, LOG_EVERY = 4, 50
CONFIG = ("dataset", "ways", "steps", "seed", "density", "views", "queries")
BEFORE = {"views": 10, "queries": 5}  # what older states do not say


class Problem(NamedTuple):
    """Where learners are trained and judged."""

    train: Sampler
    test: Sampler


def fit(name: str, entry: Entry, problem: Problem, options: argparse.Namespace) -> TrainState:
    """Meta-train one learner, or go on where its state was left."""
    learner, key = entry.build(1.0), jax.random.key(options.seed)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, entry.rate, max(1, options.steps // 20), max(2, options.steps)
    )
    tx = skip_faults(optax.adamw(schedule, weight_decay=0.05))
    state, seconds = training.init(learner, tx, key, problem.train(key)), 0.0
    config = {each: getattr(options, each) for each in CONFIG}
    settings = {"name": _file_name(name), "config": config, "out": options.out}
    if options.resume:
        state, seconds = resume(state, **settings, before=BEFORE)
    chunk = math.gcd(options.steps, LOG_EVERY)
    step = make_step(entry.objective(options.steps), tx)
    run = scan_steps(step, problem.train, num_steps=chunk, tasks_per_step=TASKS_PER_STEP)
    state, _ = train(
        jax.jit(run),
        state,
        **settings,
        num_steps=options.steps,
        seconds_before=seconds,
        log_every=LOG_EVERY,
    )
    return state


def _file_name(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "_")


def sized(entry: Entry) -> MetaLearner:
    """The learner with the share in theta: one program judges every share."""

    def adapt(theta: Any, support: Examples, *, description: Any = None, key: Any = None) -> Any:
        own, share = theta
        return entry.build(share).adapt(own, support, description=description, key=key)

    def predict(theta: Any, w: Any, x: jax.Array) -> jax.Array:
        own, share = theta
        return entry.build(share).predict(own, w, x)

    return MetaLearner(entry.build(1.0).init, adapt, predict)


def judge(
    name: str, entry: Entry, theta: Any, problem: Problem, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row for each share, on the same unseen tasks, compared task by task with the first."""
    rows, first, learner = [], None, sized(entry)
    task = problem.test(jax.random.key(options.seed))
    for share in options.share if entry.any_share else (1.0,):
        both = theta, jnp.float32(share)
        result = evaluate(
            learner,
            both,
            problem.test,
            key=jax.random.key(options.seed),
            num_tasks=options.eval_tasks,
            tasks_per_chunk=50,
        )
        first = first or result
        cost, ci95 = paired_difference(result, first)
        w = jax.jit(learner.adapt)(both, task.support)
        density = moved(w, theta) if name == "maml" else result.density
        rows.append(
            {
                "learner": name,
                "share": share,
                "accuracy": result.mean,
                "ci95": result.ci95,
                "density": density,
                "nonzeros": density * sparsity.size(w),
                "multiply_adds": int(sparsity.multiply_adds(w)),
                "live_inputs": int(sparsity.live_inputs(w)),
                "bytes": result.num_bytes,
                "cost": {"mean": cost, "ci95": ci95},
                "num_tasks": result.num_tasks,
                "evaluation": result,
            }
        )
    return rows


def ship(theta: Any, unseen: np.ndarray, options: argparse.Namespace) -> dict[str, Any]:
    """Adapt to one unseen task of many classes, and export the learner that comes out."""
    ways = min(options.export_ways, len(unseen))
    learner = mechanisms(ways, options.density)[WHOLE_INPUTS].build(1.0)
    sampler, key = episodes(unseen, ways, options.queries), jax.random.key(options.seed)
    result = evaluate(learner, theta, sampler, key=key, num_tasks=min(100, options.eval_tasks))
    w = learner.adapt(theta, sampler(key).support)
    x = np.resize(unseen.reshape(-1, unseen.shape[-1]), (10_000, unseen.shape[-1]))
    predict = jax.jit(lambda x: learner.predict(theta, w, x))
    whole = export.perceptron(theta, w)
    small, dense = export.measure(whole, x, predict(x), seconds=options.timing)
    source = export.numpy_source(export.shrink(whole))
    write_atomically(options.out / "learner.py", source.encode())
    write_atomically(options.out / "learner.stablehlo", export.stablehlo(predict, x.shape[1:]))
    one, many = (a / b for a, b in zip(dense.microseconds, small.microseconds, strict=True))
    print(
        f"\nAn emitted learner of {ways} classes, "
        f"{plus_minus(result.mean, result.ci95)} % over {result.num_tasks} tasks.\n"
        f"Exported: {export.describe(small)}.\nDense:    {export.describe(dense)}.\n"
        f"{dense.num_bytes / small.num_bytes:.1f} times smaller, {one:.1f} and {many:.1f} times "
        "faster."
    )
    figures = {"ways": ways, "accuracy": result.mean, "ci95": result.ci95, "rows": len(x)}
    return figures | {"exported": small._asdict(), "dense": dense._asdict()}


def table(rows: list[dict[str, Any]]) -> str:
    """The results as text."""
    head = (
        f"{'learner':<28}{'density':>9}{'accuracy %':>16}{'cost, points':>16}{'non-zeros':>11}"
        f"{'mult-adds':>11}{'inputs':>8}{'bytes':>9}"
    )
    lines = [head, "-" * len(head)]
    for row in rows:
        accuracy = plus_minus(row["accuracy"], row["ci95"])
        cost = plus_minus(row["cost"]["mean"], row["cost"]["ci95"])
        lines.append(
            f"{row['learner']:<28}{row['density']:>9.4f}{accuracy:>16}{cost:>16}"
            f"{row['nonzeros']:>11.0f}{row['multiply_adds']:>11}{row['live_inputs']:>8}"
            f"{row['bytes']:>9.0f}"
        )
    return "\n".join(lines)


def compare_to_dense(rows: list[dict[str, Any]]) -> None:
    """Compare mechanisms task by task with the dense learner, if that was trained."""
    dense = [row["evaluation"] for row in rows if row["learner"] == "dense"]
    for row in rows if dense else ():
        mean, ci95 = paired_difference(row["evaluation"], dense[0])
        row["cost"] = {"mean": mean, "ci95": ci95}


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.sparsity_path",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--dataset", choices=("glyphs", "omniglot"), default="glyphs")
    add("--data-dir", help="folder of Omniglot's archives (or JAXMETA_DATA)")
    add("--ways", type=int, default=5)
    add("--learner", nargs="*", choices=list(path_learners(2)), help="default: all")
    add("--mechanism", nargs="*", choices=list(mechanisms(2, 0.5)), help="default: all")
    add("--share", nargs="+", type=float, default=SHARES, help="shares to judge learners at")
    add("--density", type=float, default=0.05, help="of the mechanisms")
    add("--export-ways", type=int, default=300, help="classes of the exported learner, at most")
    add("--steps", type=int, default=4000, help="outer steps of each training")
    add("--views", type=int, default=10, help="jittered drawings of each training class")
    add("--queries", type=int, default=5)
    add("--eval-tasks", type=int, default=1000)
    add("--timing", type=float, default=1.0, help="seconds that each timing of the export takes")
    add("--seed", type=int, default=0)
    add("--resume", action="store_true", help="go on from the states in --out")
    add("--out", type=Path, default=Path("runs/sparsity_path"))
    return parse(parser, arguments)


@in_a_sentence
def main(arguments: list[str] | None = None) -> int:
    """Train, judge, export, draw, and write everything down."""
    options = parse_arguments(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.resume:
        (options.out / "metrics.jsonl").write_text("")
    known, unseen = embedded(options)
    pools = (episodes(each, options.ways, options.queries) for each in (known, unseen))
    problem = Problem(*pools)
    rows, thetas = {}, {}
    for kind, entries, wanted in (
        ("learners", path_learners(options.ways), options.learner),
        ("mechanisms", mechanisms(options.ways, options.density), options.mechanism),
    ):
        rows[kind] = []
        for name in entries if wanted is None else wanted:
            thetas[name] = fit(name, entries[name], problem, options).theta
            rows[kind] += judge(name, entries[name], thetas[name], problem, options)
        compare_to_dense(rows[kind])
        print(f"\n{kind}, {options.dataset}, {options.ways}-way 1-shot, inductive:")
        print(table(rows[kind]), flush=True)
    shipped = {}
    if WHOLE_INPUTS in thetas:
        shipped = ship(thetas[WHOLE_INPUTS], unseen, options)
    for row in sum(rows.values(), []):
        del row["evaluation"]
    document = {"config": vars(options), "results": rows, "shipped": shipped}
    document["versions"] = checkpoint.versions()
    write_json(options.out / "result.json", document)
    title = f"{options.dataset}, {options.ways}-way 1-shot, unseen classes"
    plots.sparsity_paths(rows, options.out / "sparsity_path.png", title=title)
    return 0


if __name__ == "__main__":
    cache_compilations()
    sys.exit(main())
