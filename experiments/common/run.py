"""One training of an experiment from its start to its end, the same for all of them."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import optax

from experiments.common.placement import Placement, place_on
from experiments.common.training_loop import resume, train
from jaxmeta import MetaLearner, TrainState, make_step, scan_steps, training
from jaxmeta.types import LossFn, Sampler


class Training(NamedTuple):
    """What the outer loop needs."""

    learner: MetaLearner
    loss_fn: LossFn
    sampler: Sampler
    tx: optax.GradientTransformation


def run(
    job: Training,
    *,
    name: str,
    config: dict[str, Any],
    seed: int,
    num_steps: int,
    tasks_per_step: int,
    out: Path,
    go_on: bool,
    placement: Placement | None = None,
    log_every: int = 25,
    steps_per_call: int | None = None,
    tasks_per_chunk: int | None = None,
    before: Mapping[str, Any] = MappingProxyType({}),
    start_from: Callable[[Any], Any] | None = None,
) -> tuple[TrainState, float]:
    """Draw theta, or take up the newest state; take outer steps to `num_steps`; save the states.

    Args:
      job: learner, objective, sampler and optimiser.
      name: of the run, in its files and its progress.
      config: stored with the states, to be compared when the run goes on.
      seed: of theta and of all tasks.
      num_steps: outer steps in all.
      tasks_per_step: tasks of one outer step.
      out: the folder of its files.
      go_on: whether to take up the newest state in `out`, if there is one.
      placement: the devices; by default one.
      log_every: outer steps between two reports.
      steps_per_call: outer steps of one compiled call; by default as many as divide both
        `num_steps` and `log_every`.
      tasks_per_chunk: as for `make_step`.
      before: settings that older states lack, as they then were.
      start_from: `theta drawn -> theta to start from`.

    Returns:
      The last state on one device, and the seconds that it took, those before a resume included.

    Raises:
      ValueError: if the states in `out` were made with another configuration.
      Diverged: as `train` does.
    """
    placement = placement or place_on("none", None)
    key = jax.random.key(seed)
    # The task gives its shapes alone; no draw depends on it.
    task = jax.jit(job.sampler)(jax.random.fold_in(key, 0))
    state = training.init(job.learner, job.tx, key, task)
    if start_from is not None:
        state = state._replace(theta=start_from(state.theta))
    seconds = 0.0
    if go_on:
        state, seconds = resume(state, name=name, config=config, out=out, before=before)
    step = make_step(job.loss_fn, job.tx, tasks_per_chunk=tasks_per_chunk)
    each = steps_per_call or math.gcd(num_steps, log_every)
    steps = scan_steps(step, job.sampler, num_steps=each, tasks_per_step=tasks_per_step)
    return train(
        placement.compile(steps),
        placement.place(state),
        name=name,
        config=config,
        num_steps=num_steps,
        out=out,
        seconds_before=seconds,
        log_every=log_every,
    )


def begin(out: Path, *, go_on: bool) -> None:
    """Make the folder of a run; a run that starts anew starts its logs anew."""
    out.mkdir(parents=True, exist_ok=True)
    if not go_on and jax.process_index() == 0:
        (out / "metrics.jsonl").write_text("")
        (out / "rows.jsonl").unlink(missing_ok=True)
