"""The outer loop of an experiment: progress, a metrics file, checkpoints, resume, Ctrl-C."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxmeta import TrainState, checkpoint

_SAVE_EVERY_SECONDS = 60.0


def cache_compilations() -> None:
    """Keep compiled programs from run to run, in JAX_COMPILATION_CACHE_DIR or the user's cache."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "jaxmeta" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(folder))


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
      run: jitted `state -> (state, metrics)`, one or more outer steps a call.
      state: where to start; a resumed one goes on from its own step.
      name: what to call the run in the progress line, the metrics and the file names.
      config: stored with the checkpoint, to be compared on resume.
      num_steps: outer steps in all.
      out: folder of `metrics.jsonl` and `<name>.state`.
      seconds_before: what the run took before it was resumed.
      log_every: outer steps between two reports.

    Returns:
      The final state, and the seconds the run took in all.

    Raises:
      KeyboardInterrupt: after the checkpoint was written.
    """
    state_file = out / f"{name}.state"
    start, saved, pending = time.perf_counter(), time.perf_counter(), []
    step = first = int(state.step)

    def elapsed() -> float:
        return round(seconds_before + time.perf_counter() - start, 2)

    def save() -> None:
        checkpoint.save(state_file, state, {**config, "seconds": elapsed()})

    with _terminate_as_interrupt(), (out / "metrics.jsonl").open("a") as log:
        try:
            while step < num_steps:
                state, metrics = run(state)
                if not pending and step == first:
                    sys.stderr.write(f"{name}: compiled in {time.perf_counter() - start:.0f} s\n")
                pending.append(metrics)
                step += len(metrics["loss"])
                if step // log_every > (step - len(metrics["loss"])) // log_every:
                    means = _means(pending)
                    rate = (step - first) / (time.perf_counter() - start)
                    record = {"learner": name, "step": step, "seconds": elapsed(), **means}
                    log.write(json.dumps(record) + "\n")
                    log.flush()
                    _show(name, step, num_steps, rate, means)
                    pending = []
                if time.perf_counter() - saved > _SAVE_EVERY_SECONDS:
                    save()
                    saved = time.perf_counter()
        except KeyboardInterrupt:
            save()
            sys.stderr.write(f"\nStopped at step {int(state.step)}; go on with --resume.\n")
            raise
    jax.block_until_ready(state)
    save()
    return state, elapsed()


def read_metrics(out: Path) -> Iterator[dict[str, Any]]:
    """The records of `metrics.jsonl`; a last line that was cut off is passed over."""
    for line in (out / "metrics.jsonl").read_text().splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


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
def _terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end a run the way Ctrl-C does, with a checkpoint."""

    def interrupt(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
