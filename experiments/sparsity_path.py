"""Accuracy against the density of what is emitted: learners, mechanisms, and one that is shipped.

Claim: on the embeddings of a trained encoder one training of each learner serves every density; a
  tenth of an embedding costs less than half a point; and an emitted learner of many classes that
  reads a twentieth of its inputs leaves as a NumPy file, many times smaller and faster.
Command: python -m experiments.sparsity_path --out DIR
  (and `--dataset omniglot --data-dir DIR --ways 20` for Omniglot)
Expected: the tables in experiments/sparse/RESULTS.md.
Time: a minute for each training on one CPU core, a quarter of an hour for a data set.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.command_line import as_settings, flag, in_a_sentence, parse
from experiments.common.documents import plus_minus, report, write_atomically
from experiments.common.evidence import judged, paired
from experiments.common.run import Training, begin, run
from experiments.common.training_loop import cache_compilations, skip_faults
from experiments.sparse import certificates, plots, tables
from experiments.sparse.embeddings import embedded, episodes
from experiments.sparse.learners import WHOLE_INPUTS, Entry, mechanisms, moved, path_learners, sized
from jaxmeta import (
    TrainState,
    checkpoint,
    evaluate,
    export,
    sparsity,
)
from jaxmeta.types import Sampler

SHARES = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01)
TASKS_PER_STEP, LOG_EVERY = 4, 50
CONFIG = ("dataset", "ways", "steps", "seed", "density", "views", "queries")
BEFORE = {"views": 10, "queries": 5}  # what older states do not say


class Problem(NamedTuple):
    """Where learners are trained and judged."""

    train: Sampler
    test: Sampler


@dataclass(frozen=True)
class Options:
    """The command line."""

    dataset: Literal["glyphs", "omniglot"] = "glyphs"
    data_dir: str | None = flag(None, "folder of Omniglot's archives (or JAXMETA_DATA)")
    ways: int = 5
    learner: tuple[str, ...] | None = flag(
        None, "default: all", nargs="*", choices=tuple(path_learners(2))
    )
    mechanism: tuple[str, ...] | None = flag(
        None, "default: all", nargs="*", choices=tuple(mechanisms(2, 0.5))
    )
    share: tuple[float, ...] = flag(SHARES, "shares to judge learners at")
    density: float = flag(0.05, "of the mechanisms")
    export_ways: int = flag(300, "classes of the exported learner, at most")
    steps: int = flag(4000, "outer steps of each training")
    views: int = flag(10, "jittered drawings of each training class")
    queries: int = 5
    eval_tasks: int = 1000
    certify_rows: int = flag(2000, "rows of the tasks that errors are certified on")
    certify_tasks: int = flag(20, "how many of these")
    timing: float = flag(1.0, "seconds that each timing of the export takes")
    seed: int = 0
    resume: bool = flag(False, "go on from the states in --out")
    json: bool = flag(False, "print result.json to standard output")
    out: Path = flag(Path("runs/sparsity_path"), "folder for all that is written")


def fit(name: str, entry: Entry, problem: Problem, options: Options) -> TrainState:
    """Meta-train one learner, or go on where its state was left."""
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, entry.rate, max(1, options.steps // 20), max(2, options.steps)
    )
    tx = skip_faults(optax.adamw(schedule, weight_decay=0.05))
    state, _ = run(
        Training(entry.build(1.0), entry.objective(options.steps), problem.train, tx),
        name=_file_name(name),
        config={each: getattr(options, each) for each in CONFIG},
        seed=options.seed,
        num_steps=options.steps,
        tasks_per_step=TASKS_PER_STEP,
        out=options.out,
        go_on=options.resume,
        log_every=LOG_EVERY,
        before=BEFORE,
    )
    return state


def _file_name(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "_")


def judge(
    name: str, entry: Entry, theta: Any, problem: Problem, options: Options
) -> list[dict[str, Any]]:
    """A row for each share, on the same unseen tasks, compared task by task with the first."""
    rows, first, learner = [], None, sized(entry)
    task = problem.test(jax.random.key(options.seed))
    for share in options.share if entry.any_share else (1.0,):
        both = theta, jnp.float32(share)
        result = judged(
            learner,
            both,
            problem.test,
            key=jax.random.key(options.seed),
            num_tasks=options.eval_tasks,
            tasks_per_chunk=50,
        )
        first = first or result
        cost = paired(result, first)
        w = jax.jit(learner.adapt)(both, task.support)
        density = moved(w, theta) if name == "maml" else result.density
        rows.append(
            {
                "learner": name,
                "share": share,
                "accuracy": result.mean,
                "ci95": result.ci95,
                "ci95_classes": result.ci95_new,
                "density": density,
                "nonzeros": density * sparsity.size(w),
                "multiply_adds": int(sparsity.multiply_adds(w)),
                "live_inputs": int(sparsity.live_inputs(w)),
                "bytes": result.num_bytes,
                "cost": cost,
                "num_tasks": result.num_tasks,
                "evaluation": result,
            }
        )
    return rows


def certify(thetas: dict[str, Any], unseen: np.ndarray, options: Options) -> list[dict[str, Any]]:
    """Occam's bound of the learners at each share, on tasks of many rows."""
    tasks = certificates.tasks_of_many_rows(
        unseen,
        ways=options.ways,
        rows=options.certify_rows,
        tasks=options.certify_tasks,
        seed=options.seed,
    )
    return certificates.certify(path_learners(options.ways), thetas, tasks, options.share)


def ship(theta: Any, unseen: np.ndarray, options: Options) -> tuple[dict, str]:
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
    source = export.numpy_source(export.prune_dead_units(whole))
    write_atomically(options.out / "learner.py", source.encode())
    write_atomically(options.out / "learner.stablehlo", export.stablehlo(predict, x.shape[1:]))
    one, many = (a / b for a, b in zip(dense.microseconds, small.microseconds, strict=True))
    text = (
        f"\nAn emitted learner of {ways} classes, "
        f"{plus_minus(result.mean, result.ci95)} % over {result.num_tasks} tasks.\n"
        f"Exported: {export.describe(small)}.\nDense:    {export.describe(dense)}.\n"
        f"{dense.num_bytes / small.num_bytes:.1f} times smaller, {one:.1f} and {many:.1f} times "
        "faster."
    )
    figures = {"ways": ways, "accuracy": result.mean, "ci95": result.ci95, "rows": len(x)}
    return figures | {"exported": small._asdict(), "dense": dense._asdict()}, text


def compare_to_dense(rows: list[dict[str, Any]]) -> None:
    """Compare mechanisms task by task with the dense learner, if that was trained."""
    dense = [row["evaluation"] for row in rows if row["learner"] == "dense"]
    for row in rows if dense else ():
        row["cost"] = paired(row["evaluation"], dense[0])


@in_a_sentence
def main(arguments: list[str] | None = None) -> int:
    """Train, judge, export, draw, and write everything down."""
    options = parse(Options, arguments, experiment="sparsity_path", description=__doc__)
    begin(options.out, go_on=options.resume)
    known, unseen = embedded(
        options.dataset,
        options.data_dir,
        views=options.views,
        out=options.out,
        go_on=options.resume,
    )
    pools = (episodes(each, options.ways, options.queries) for each in (known, unseen))
    problem = Problem(*pools)
    rows, thetas, lines = {}, {}, []
    for kind, entries, wanted in (
        ("learners", path_learners(options.ways), options.learner),
        ("mechanisms", mechanisms(options.ways, options.density), options.mechanism),
    ):
        rows[kind] = []
        for name in entries if wanted is None else wanted:
            thetas[name] = fit(name, entries[name], problem, options).theta
            rows[kind] += judge(name, entries[name], thetas[name], problem, options)
        compare_to_dense(rows[kind])
        lines.append(f"\n{kind}, {options.dataset}, {options.ways}-way 1-shot, inductive:")
        lines.append(tables.of_rows(rows[kind]))
    certified = certify(thetas, unseen, options)
    lines.append(certificates.table(certified))
    shipped = {}
    if WHOLE_INPUTS in thetas:
        shipped, text = ship(thetas[WHOLE_INPUTS], unseen, options)
        lines.append(text)
    for row in sum(rows.values(), []):
        del row["evaluation"]
    document = {"config": as_settings(options), "results": rows, "shipped": shipped}
    document |= {"certified": certified, "versions": checkpoint.versions()}
    title = f"{options.dataset}, {options.ways}-way 1-shot, unseen classes"
    plots.sparsity_paths(rows, certified, options.out / "sparsity_path.png", title=title)
    text = "\n".join(lines)
    report(document, text, path=options.out / "result.json", as_json=options.json)
    return 0


if __name__ == "__main__":
    cache_compilations()
    sys.exit(main())
