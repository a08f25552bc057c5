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

from experiments.command_line import Diverged, check_finite
from experiments.documents import append_json, read_records
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
    state_file = out / f"{name}.state"
    start, saved, pending = time.perf_counter(), time.perf_counter(), []
    step = first = int(state.step)

    def elapsed() -> float:
        return round(seconds_before + time.perf_counter() - start, 2)

    def check() -> None:
        check_finite(jax.tree.map(_local, state.theta), f"{name}, at outer step {step},")

    def save() -> None:
        check()  # what cannot be gone on from takes no good checkpoint's place
        checkpoint.save_newest(state_file, state, {**config, "seconds": elapsed()})

    check()
    leads = jax.process_index() == 0
    with _stop_on_signals() as stop:
        while step < num_steps and not stop.is_set():
            state, metrics = run(state)
            if not pending and step == first:
                sys.stderr.write(f"{name}: compiled in {time.perf_counter() - start:.0f} s\n")
            pending.append(metrics)
            step += len(metrics["loss"])
            if step // log_every > (step - len(metrics["loss"])) // log_every:
                means = _means(pending) | _faults(state)
                rate = (step - first) / (time.perf_counter() - start)
                record = {"learner": name, "step": step, "seconds": elapsed(), **means}
                if leads:
                    append_json(out / "metrics.jsonl", record)
                    _show(name, step, num_steps, rate, means)
                pending = []
                check()
            if time.perf_counter() - saved > _SAVE_EVERY_SECONDS:
                save()
                saved = time.perf_counter()
        seconds = elapsed()
        if step > first:
            save()
    if step < num_steps:
        sys.stderr.write(f"\nStopped at step {step}; go on with --resume.\n")
        raise KeyboardInterrupt
    return parallel.unreplicate(state), seconds


def _faults(state: TrainState) -> dict[str, int]:
    """How many steps were skipped, if the optimiser counts them.

    Raises:
      Diverged: if the last ones all were.
    """
    in_a_row = optax.tree_utils.tree_get(state.opt_state, "notfinite_count")
    if in_a_row is None:
        return {}
    if int(in_a_row) >= MOST_FAULTS:
        raise Diverged(
            f"The gradients of {int(in_a_row)} outer steps in a row, up to step {int(state.step)}, "
            "are NaN or infinite: lower the learning rate or the inner rate, or look for such "
            "values in the data. theta is as it was before them, and so is the last checkpoint."
        )
    return {"skipped": int(optax.tree_utils.tree_get(state.opt_state, "total_notfinite"))}


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


def _show(name: str, step: int, num_steps: int, rate: float, means: dict[str, float]) -> None:
    """One progress line: rewritten in place on a terminal, ten lines a run elsewhere."""
    left = (num_steps - step) / max(rate, 1e-9)
    filled = 20 * step // num_steps
    accuracy = f"accuracy {100 * means['accuracy']:.1f}%  " if "accuracy" in means else ""
    line = (
        f"{name:<20} [{'=' * filled}{' ' * (20 - filled)}] {step}/{num_steps}  {rate:.1f} steps/s  "
        f"loss {means['loss']:.3f}  {accuracy}{left:.0f} s left"
    )
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{line}\x1b[K" + ("\n" if step >= num_steps else ""))
    elif step >= num_steps or (10 * step) // num_steps > (10 * (step - 25)) // num_steps:
        sys.stderr.write(line + "\n")
    sys.stderr.flush()


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
