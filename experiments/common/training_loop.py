"""The outer loop of an experiment: progress, a metrics file, checkpoints, resume, Ctrl-C."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
import optax
from tqdm import tqdm

from experiments.common.command_line import Diverged, check_finite
from experiments.common.documents import append_json, read_records
from jaxmeta import TrainState, checkpoint, parallel

_SAVE_EVERY_SECONDS = 60.0
MOST_FAULTS = 100
"""Steps in a row that may be skipped for a gradient that is NaN or infinite."""


def skip_faults(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """An outer optimiser that makes no step where the gradient is not finite, and counts these."""
    # After so many in a row optax would take the next one as it is; `train` has stopped by then.
    return optax.apply_if_finite(tx, max_consecutive_errors=np.iinfo(np.int32).max)


def cache_compilations() -> None:
    """Keep compiled programs from run to run, in JAX_COMPILATION_CACHE_DIR or the user's cache."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "jaxmeta" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(folder))


def resume(
    state: TrainState,
    *,
    name: str,
    config: dict[str, Any],
    out: Path,
    before: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[TrainState, float]:
    """The newest checkpoint of a run that is whole, and the seconds that it took to get there.

    Args:
      state: where to start if there is none.
      name, config, out: as for `train`.
      before: settings that older checkpoints lack, as they then were.

    Raises:
      ValueError: if it was made with another configuration.
    """
    path = out / f"{name}.state"
    if not checkpoint.newest_first(path):
        return state, 0.0
    state, stored = checkpoint.restore_newest(path, state)
    seconds = stored.pop("seconds", 0.0)
    stored = {**before, **stored}
    if stored != config:
        differ = sorted(key for key in stored | config if stored.get(key) != config.get(key))
        raise ValueError(
            f"{path} was made with other settings than these ({', '.join(differ)}); give the same "
            "flags, or leave out --resume to train anew."
        )
    return state, seconds


def train(
    run: Callable[[TrainState], tuple[TrainState, dict[str, Any]]],
    state: TrainState,
    *,
    name: str,
    config: dict[str, Any],
    num_steps: int,
    out: Path,
    seconds_before: float = 0.0,
    log_every: int = 25,
) -> tuple[TrainState, float]:
    """Run outer steps to `num_steps`, and leave a resumable checkpoint whatever happens.

    Args:
      run: compiled `state -> (state, metrics)`, one or more outer steps a call.
      state: where to start, on the devices of `run`; a resumed one goes on from its own step.
      name: what to call the run in the progress line, the metrics and the file names.
      config: stored with the checkpoint, to be compared on resume.
      num_steps: outer steps in all.
      out: folder of `metrics.jsonl` and `<name>.state`, with the states before it beside it.
      seconds_before: what the run took before it was resumed.
      log_every: outer steps between two reports.

    Returns:
      The final state on one device, and the seconds the run took in all.

    Raises:
      KeyboardInterrupt: on Ctrl-C or SIGTERM, after the checkpoint was written.
      Diverged: after `MOST_FAULTS` steps in a row whose gradient was not finite, or as soon as a
        report finds that theta is not; the checkpoints are those of before.
      OSError: if a file cannot be written; the checkpoints are those of before.
    """
    keeper = _Keeper(name, out / f"{name}.state", config, seconds_before)
    log = _Log(name, out / "metrics.jsonl", log_every)
    step = first = int(state.step)
    keeper.check(state)
    with _stop_on_signals() as stop, log.bar(step, num_steps) as bar:
        while step < num_steps and not stop.is_set():
            state, metrics = run(state)
            if step == first:
                seconds = keeper.seconds() - seconds_before
                sys.stderr.write(f"{name}: compiled in {seconds:.0f} s\n")
            step += len(metrics["loss"])
            if log.add(metrics, step, bar):
                log.report(bar, step, keeper.seconds(), _faults(state))
                keeper.check(state)
            keeper.save_if_due(state)
        seconds = keeper.seconds()
        if step > first:
            log.end(step, num_steps, seconds)
            keeper.save(state)
    if step < num_steps:
        sys.stderr.write(f"\nStopped at step {step}; go on with --resume.\n")
        raise KeyboardInterrupt
    return parallel.unreplicate(state), seconds


class _Keeper:
    """The clock of a run and its checkpoints, none of which holds a theta that is not finite."""

    def __init__(self, name: str, file: Path, config: dict[str, Any], seconds_before: float):
        self.name, self.file, self.config, self.before = name, file, config, seconds_before
        self.start = self.saved = time.perf_counter()

    def seconds(self) -> float:
        """What the run took so far, with what it took before it was resumed."""
        return round(self.before + time.perf_counter() - self.start, 2)

    def check(self, state: TrainState) -> None:
        """Raise `Diverged` where theta is not finite."""
        theta = jax.tree.map(_local, state.theta)
        check_finite(theta, f"{self.name}, at outer step {int(state.step)},")

    def save(self, state: TrainState) -> None:
        """Write a checkpoint; what cannot be gone on from takes no good one's place."""
        self.check(state)
        checkpoint.save_newest(self.file, state, {**self.config, "seconds": self.seconds()})
        self.saved = time.perf_counter()

    def save_if_due(self, state: TrainState) -> None:
        """Write one if the last is a minute old."""
        if time.perf_counter() - self.saved > _SAVE_EVERY_SECONDS:
            self.save(state)


class _Log:
    """The metrics of a run since its last report, which the first process writes and shows."""

    def __init__(self, name: str, file: Path, every: int):
        self.name, self.file, self.every = name, file, every
        self.pending, self.leads = [], jax.process_index() == 0

    def bar(self, step: int, num_steps: int) -> tqdm:
        """Progress on a terminal; elsewhere the file alone says how far it is."""
        hidden = None if self.leads else True
        return tqdm(total=num_steps, initial=step, desc=self.name, unit="step", disable=hidden)

    def add(self, metrics: dict[str, Any], step: int, bar: tqdm) -> bool:
        """Take in the metrics of the steps up to `step`; whether a report is due."""
        self.pending.append(metrics)
        count = len(metrics["loss"])
        bar.update(count)
        return step // self.every > (step - count) // self.every

    def report(self, bar: tqdm, step: int, seconds: float, more: dict[str, int]) -> None:
        """Write the means since the last report, and start anew."""
        means = _means(self.pending) | more
        self.pending = []
        if self.leads:
            append_json(
                self.file, {"learner": self.name, "step": step, "seconds": seconds, **means}
            )
            bar.set_postfix(means)

    def end(self, step: int, num_steps: int, seconds: float) -> None:
        """Say how far it came."""
        if self.leads:
            sys.stderr.write(f"{self.name}: {step} of {num_steps} steps in {seconds:.0f} s\n")


def _faults(state: TrainState) -> dict[str, int]:
    """How many steps were skipped, if the optimiser counts them.

    Raises:
      Diverged: if the last ones all were.
    """
    in_a_row = optax.tree.get(state.opt_state, "notfinite_count")
    if in_a_row is None:
        return {}
    if int(in_a_row) >= MOST_FAULTS:
        raise Diverged(
            f"The gradients of {int(in_a_row)} outer steps in a row, up to step {int(state.step)}, "
            "are NaN or infinite: lower the learning rate or the inner rate, or look for such "
            "values in the data. theta is as it was before them, and so is the last checkpoint."
        )
    return {"skipped": int(optax.tree.get(state.opt_state, "total_notfinite"))}


def read_metrics(out: Path) -> Iterator[dict[str, Any]]:
    """The records of `metrics.jsonl`; None for a number that was not finite."""
    return read_records(out / "metrics.jsonl")


def _local(leaf: Any) -> Any:
    """What this process holds of a replicated array, which is all of it."""
    return leaf.addressable_data(0) if isinstance(leaf, jax.Array) else leaf


def _means(metrics: list[dict[str, Any]]) -> dict[str, float]:
    """Each metric averaged over the steps since the last report."""
    host = jax.device_get(metrics)
    return {
        name: round(float(np.concatenate([each[name] for each in host]).mean()), 5)
        for name in host[0]
    }


@contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set: the steps under way give a state before it is saved.

    An exception in the middle of them would lose it, as they consume the state before. Whoever
    cannot wait presses Ctrl-C again.
    """
    stop = threading.Event()

    def ask_to_stop(signum: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {each: signal.signal(each, ask_to_stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
