"""Accuracy against the density of what a hypernetwork emits, on glyphs and on two_tasks.

Question: how much accuracy does each smaller share of the emitted weights cost?
Command: python -m experiments.density_curve
Expected: on two_tasks a tenth costs 0.3 points; on glyphs less than one (experiments/README.md).
Time: about half an hour on 2 CPU cores; two_tasks alone, a minute: `--problem two_tasks`.
"""

import argparse
import json
import sys
from pathlib import Path

from experiments import few_shot, plots, two_tasks
from experiments.training_loop import cache_compilations
from jaxmeta.files import write_atomically

DENSITIES = (1.0, 0.3, 0.1, 0.05, 0.02)


def glyphs_point(density: float, options: argparse.Namespace) -> dict[str, float]:
    """The few-shot experiment with a hypernetwork of this density."""
    out = options.out / f"glyphs-{density}"
    flags = ["--learner", "hypernet", "--density", str(density), "--out", str(out)]
    flags += ["--eval-tasks", str(options.eval_tasks), "--seed", str(options.seed)]
    flags += ["--steps", str(options.steps or 2400)] + ["--resume"] * options.resume
    if few_shot.main(flags) != 0:
        raise SystemExit("The few-shot experiment failed; its message stands above.")
    return json.loads((out / "result.json").read_text())["results"][0]


def two_tasks_point(density: float, options: argparse.Namespace) -> dict[str, float]:
    """The two-tasks experiment, with a rule."""
    result = two_tasks.train_and_judge(
        two_tasks.hypernet(density),
        rule=True,
        steps=options.steps or 1000,
        seed=options.seed,
        num_tasks=options.eval_tasks,
    )
    return {
        "accuracy": result.mean,
        "ci95": result.ci95,
        "density": result.density,
        "nonzeros": result.nonzeros,
        "num_tasks": result.num_tasks,
    }


PROBLEMS = {"two_tasks": two_tasks_point, "glyphs": glyphs_point}


def main(arguments: list[str] | None = None) -> int:
    """Train one hypernetwork a density, and draw the curve."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.density_curve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--problem", nargs="+", choices=sorted(PROBLEMS), default=sorted(PROBLEMS))
    parser.add_argument("--density", nargs="+", type=float, default=DENSITIES)
    parser.add_argument("--steps", type=int, help="outer steps; by default the experiments' own")
    parser.add_argument("--resume", action="store_true", help="go on from what --out holds")
    parser.add_argument("--eval-tasks", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/density_curve"))
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    curves = {
        problem: [PROBLEMS[problem](density, options) for density in options.density]
        for problem in options.problem
    }
    plots.accuracy_against_density(
        curves, options.out / "density_curve.png", title="Hypernetwork, w through top-k"
    )
    config = {**vars(options), "out": str(options.out)}
    document = json.dumps({"config": config, "curves": curves}, indent=1)
    write_atomically(options.out / "result.json", document.encode())
    for problem, points in curves.items():
        for point in points:
            print(
                f"{problem:<12} density {point['density']:.3f}  "
                f"accuracy {100 * point['accuracy']:.2f} ± {100 * point['ci95']:.2f} %"
            )
    return 0


if __name__ == "__main__":
    cache_compilations()
    sys.exit(main())
