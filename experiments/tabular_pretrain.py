"""Pre-training of the tabular meta-net on synthetic tables.

Claim: trained on a prior alone, the emitted model has a lower log-loss on tables never seen than
  the mixture of fits that it starts from.
Command: python -m experiments.tabular_pretrain
Expected: loss on validation tasks of the prior below that of the start. The weights that ship are
  in `jaxmeta/tabular/weights/tabular.ckpt`, the settings that gave them inside, and as programs
  for NumPy in `tabular.npz` beside it.
Time: 110 to 130 tasks a second on a CPU core; Ctrl-C, and `--resume`, at any time. Several
  devices share each step.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.command_line import check_finite, flag, in_a_sentence, parse
from experiments.common.documents import plus_minus, report
from experiments.common.placement import Devices, Placement, device_flags, start
from experiments.common.run import Training, begin, run
from experiments.common.training_loop import cache_compilations, skip_faults
from experiments.tabular.tables import load_tasks
from jaxmeta import (
    MetaLearner,
    Task,
    TrainState,
    checkpoint,
    evaluate,
    losses,
    meta_objective,
    paired_difference,
    sparsity,
)
from jaxmeta.tabular import meta_net, prior

ROWS, QUERIES, FEW = 100, 64, 12
SETTINGS = ("seed", "steps", "tasks_per_step", "rows", "rate", "average", "eta")
"""What the weights depend on, and are shipped with."""


@dataclass(frozen=True)
class Options:
    """The command line."""

    steps: int = flag(4000, "outer steps in all")
    tasks_per_step: int = 16
    chunk: int = flag(8, "tasks whose gradient is taken at once")
    scan: int = flag(10, "outer steps in one call")
    rows: int = flag(ROWS, "the most support rows")
    rate: float = flag(3e-3, "of Adam")
    average: float = flag(0.995, "decay of the average of theta")
    eta: float = flag(1e-4, "weight of the L1 norm of w")
    eval_tasks: int = 1000
    data_dir: str | None = flag(None, "real tables to validate on; none by default")
    seed: int = 0
    resume: bool = flag(False, "go on from the state in --out")
    json: bool = flag(False, "print result.json to standard output")
    out: Path = flag(Path("runs/tabular_pretrain"), "folder for all that is written")
    placement: Devices = device_flags()


class Average(NamedTuple):
    """A running average of theta, which the optimiser carries along."""

    theta: Any


def running_average(decay: float) -> optax.GradientTransformation:
    """The last link of a chain: passes updates on, and averages what they lead to."""

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        del extra
        moved = optax.apply_updates(params, updates)
        return updates, Average(optax.incremental_update(moved, state.theta, 1.0 - decay))

    # A copy: the state is donated, and a buffer can be given away once.
    return optax.GradientTransformation(
        lambda params: Average(jax.tree.map(jnp.copy, params)), update
    )


def optimiser(options: Options) -> optax.GradientTransformation:
    """Adam: a short rise, a constant rate, a fall over the last third; then the average."""
    rise, fall = min(200, options.steps // 10), options.steps // 3
    rate = optax.join_schedules(
        [
            optax.linear_schedule(0.0, options.rate, rise),
            optax.constant_schedule(options.rate),
            optax.linear_schedule(options.rate, 0.02 * options.rate, fall),
        ],
        [rise, options.steps - fall],
    )
    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b2=0.99))
    return optax.chain(skip_faults(adam), running_average(options.average))


def averaged(state: TrainState) -> Any:
    """theta to ship: its running average."""
    return state.opt_state[-1].theta


def objective(learner: MetaLearner, eta: float):
    """Cross-entropy of the query rows, and eta times the L1 norm of the emitted weights."""
    return meta_objective(
        learner,
        losses.cross_entropy,
        lambda w: sparsity.l1(w.kernel),
        eta=eta,
        metrics={"accuracy": losses.accuracy},
        report_density=False,
    )


def pretrain(options: Options, placement: Placement) -> tuple[TrainState, float]:
    """The state after `--steps` outer steps, and the seconds they took."""
    learner = meta_net.tabular()
    sampler = prior.tabular_prior(rows=options.rows, queries=QUERIES)
    return run(
        Training(learner, objective(learner, options.eta), sampler, optimiser(options)),
        name="tabular",
        config={each: getattr(options, each) for each in ("seed", "eta", "tasks_per_step")},
        seed=options.seed,
        num_steps=options.steps,
        tasks_per_step=options.tasks_per_step,
        out=options.out,
        go_on=options.resume,
        placement=placement,
        log_every=options.scan,
        steps_per_call=options.scan,
        tasks_per_chunk=options.chunk,
    )


def validate(theta: Any, options: Options) -> dict[str, Any]:
    """On tasks of the prior that were not trained on: trained against untrained, the same tasks."""
    learner = meta_net.tabular()
    sampler = prior.tabular_prior(rows=options.rows, queries=256)
    key = jax.random.key(options.seed + 1)
    start = learner.init(key, sampler(key))
    ours, theirs = (
        evaluate(
            learner,
            each,
            sampler,
            key=key,
            num_tasks=options.eval_tasks,
            metric=losses.cross_entropy,
            tasks_per_chunk=4,
        )
        for each in (theta, start)
    )
    difference, ci95 = paired_difference(ours, theirs)
    return {
        "log_loss": ours.mean,
        "untrained": theirs.mean,
        "difference": difference,
        "ci95": ci95,
        "num_tasks": ours.num_tasks,
    }


def validate_on_tables(theta: Any, found: list[Task], options: Options) -> dict[str, float]:
    """Mean log-loss over real tables, one split each: trained, untrained, and with few terms."""
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), *found)
    learner = meta_net.tabular()

    @jax.jit
    def mean_loss(theta: Any, num_terms: jax.Array) -> jax.Array:
        def loss(task: Task) -> jax.Array:
            description = task.description._replace(num_terms=num_terms)
            w = learner.adapt(theta, task.support, description=description)
            return losses.cross_entropy(
                learner.predict(theta, w, task.query.x), task.query.y, task.query.mask
            )

        return jax.lax.map(loss, batch).mean()

    start = learner.init(jax.random.key(options.seed), jax.tree.map(lambda leaf: leaf[0], batch))
    return {
        "log_loss": float(mean_loss(theta, jnp.int32(0))),
        "untrained": float(mean_loss(start, jnp.int32(0))),
        "few_terms": float(mean_loss(theta, jnp.int32(FEW))),
        "num_sets": len(found),
    }


def conclude(state: TrainState, seconds: float, tables: list[Task], options: Options) -> None:
    """Write the weights, and what they do on tasks and tables that were not trained on."""
    theta, settings = averaged(state), {each: getattr(options, each) for each in SETTINGS}
    check_finite(theta, f"The average of theta over {options.steps} outer steps")
    about = {**settings, "seconds": seconds, "features": meta_net.FEATURES}
    checkpoint.save(options.out / "tabular.ckpt", theta, about)
    result = validate(theta, options) | {"seconds": seconds, "config": settings}
    if tables:
        result["tables"] = validate_on_tables(theta, tables, options)
    # All processes validate, which takes them equally long; the first one writes.
    if jax.process_index() > 0:
        return
    meta_net.write_programs(options.out / "tabular.npz", options.out / "tabular.ckpt")
    gain = plus_minus(result["difference"], result["ci95"], scale=1.0, digits=4)
    lines = [
        f"Log-loss on {result['num_tasks']} tasks of the prior: {result['log_loss']:.4f}, "
        f"untrained {result['untrained']:.4f}, difference {gain}; "
        f"{state.step * options.tasks_per_step} tasks in {seconds:.0f} s."
    ]
    if tables:
        real = result["tables"]
        lines.append(
            f"On {real['num_sets']} real tables: {real['log_loss']:.4f}, untrained "
            f"{real['untrained']:.4f}, with {FEW} terms {real['few_terms']:.4f}."
        )
    path = options.out / "result.json"
    report(result, "\n".join(lines), path=path, as_json=options.json)


@in_a_sentence
def main(arguments: list[str] | None = None) -> int:
    """Train, validate, and write the weights."""
    options = parse(Options, arguments, experiment="tabular_pretrain", description=__doc__)
    placement = start(options.placement)
    begin(options.out, go_on=options.resume)
    tables = load_tasks(options.data_dir, rows=options.rows) if options.data_dir else []
    state, seconds = pretrain(options, placement)
    conclude(state, seconds, tables, options)
    placement.wait()
    return 0


if __name__ == "__main__":
    cache_compilations()
    sys.exit(main())
