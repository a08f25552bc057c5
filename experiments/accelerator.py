"""Does this accelerator work, and what does it give? Everything worth knowing, in ten minutes.

Claim: on any device that JAX finds the library is right, and its speed is known.
Command: python -m experiments.accelerator --out DIR
Expected: no failure in DIR/report.md, which has a section for each stage, in order of worth. On a
  CPU all is a rehearsal at small sizes.
Time: `--minutes`, 10 by default; what does not fit is left out, and `--resume` goes on with it.

More:
  python -m experiments.accelerator --only formulations --write-table
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from experiments.common.command_line import as_settings, flag, in_a_sentence, parse
from experiments.common.documents import report, write_atomically
from experiments.common.training_loop import cache_compilations
from experiments.devices import checks, jobs, peaks, speed, summary
from experiments.devices.stages import Setting, Stage, run_stage

STAGES = {
    "device": Stage("what is there, and its peaks", 0.05, peaks.items),
    "checks": Stage("is it right", 0.25, checks.items),
    "formulations": Stage("task_conv, milliseconds by formulation", 0.2, speed.formulations),
    "throughput": Stage("outer steps", 0.2, speed.outer_steps),
    "chunks": Stage("outer steps by tasks_per_chunk", 0.08, speed.chunks),
    "training": Stage("whole jobs", 0.12, jobs.trainings),
    "tabular": Stage("tables of the tabular pre-training", 0.07, jobs.tables),
    "devices": Stage("several devices", 0.03, jobs.several),
}


@dataclass(frozen=True)
class Options:
    """The command line."""

    minutes: float = flag(10.0, "that all stages may take; an item that has begun is not stopped")
    only: tuple[str, ...] = flag(tuple(STAGES), choices=tuple(STAGES))
    write_table: bool = flag(False, "put the best formulations into the package's table")
    steps: int = flag(1, "1 to measure, 0 to say what is on file alone")
    seed: int = flag(0, "of all that is drawn")
    resume: bool = flag(False, "go on from what --out has")
    json: bool = flag(False, "print report.json to standard output")
    out: Path = flag(Path("runs/accelerator"), "folder for all that is written")


def run(options: Options) -> dict[str, Any]:
    """The stages that were asked for; each may use up what those before it left over."""
    begun, seconds = time.monotonic(), 60.0 * options.minutes
    # The last item of a stage may end after its time: a quarter is kept for that.
    shares = {name: STAGES[name].share for name in STAGES if name in options.only}
    found, passed = {}, 0.0
    for name, share in shares.items():
        passed += share / sum(shares.values())
        deadline = begun + 0.75 * seconds * passed
        left = (begun + seconds - time.monotonic()) / 60
        sys.stderr.write(f"{name}: {STAGES[name].title} ({left:.1f} minutes left)\n")
        small = jax.default_backend() == "cpu"
        lasts = max(0.0, deadline - time.monotonic())
        setting = Setting(small, options.seed, options.out, lasts)
        found[name] = run_stage(name, STAGES[name], setting, deadline if options.steps else None)
    return found


@in_a_sentence
def main(arguments: list[str] | None = None) -> int:
    """Measure what is missing, and write the report; 1 if a check failed."""
    options = parse(
        Options, arguments, experiment="accelerator", description=__doc__, least={"steps": 0}
    )
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.resume and options.steps:
        for name in options.only:
            (options.out / f"{name}.jsonl").unlink(missing_ok=True)
    found = run(options)
    text = summary.as_text(found)
    write_atomically(options.out / "report.md", text.encode())
    summary.draw(found, options.out)
    document = {"config": as_settings(options), "stages": found}
    report(document, text, path=options.out / "report.json", as_json=options.json)
    if options.write_table:
        rows = found.get("formulations", {"rows": []})["rows"]
        sys.stderr.write(f"Written: {speed.write_table(rows)}\n")
    return 1 if any(stage["failures"] for stage in found.values()) else 0


if __name__ == "__main__":
    cache_compilations()
    sys.exit(main())
