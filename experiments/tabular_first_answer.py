"""Small tables: how long a script waits that fits one table, in a process of its own.

Claim: to a fitted table of 100 x 5, MetaClassifier takes at most 1.5 times as long as
  cross-validated logistic regression, and at most 300 MB, on the first run of a machine as later.
Command: python -m experiments.tabular_first_answer
Expected: the table in experiments/tabular/RESULTS.md.
Time: two minutes on one CPU core.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.command_line import as_settings, flag, in_a_sentence, parse
from experiments.common.documents import measured_once, report, table

METHODS = {
    "MetaClassifier": ("jaxmeta.tabular", "MetaClassifier()"),
    "LogisticRegressionCV": (
        "sklearn.linear_model",
        "LogisticRegressionCV(Cs=10, cv=5, l1_ratios=(0.0,), use_legacy_attributes=False)",
    ),
    "random forest": ("sklearn.ensemble", "RandomForestClassifier(random_state=0)"),
}
"""The module of each method, and how it is made."""

REFERENCE = "LogisticRegressionCV"

_SCRIPT = """
import time
start = time.perf_counter()
import json
import numpy as np
from {module} import {name}
imported = time.perf_counter()
rng = np.random.default_rng({seed})
x = rng.normal(size=(100, 5))
y = (x[:, 0] - x[:, 1] + 0.5 * rng.normal(size=100) > 0).astype(int)
model = {model}.fit(x, y)
model.predict_proba(x)
fitted = time.perf_counter()
model.fit(x, y)
again = time.perf_counter()
try:  # Linux; what getrusage says there begins with the memory of the parent
    peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 2**10
except OSError:  # macOS, which counts in bytes
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps(dict(
    imports=imported - start, first_fit=fitted - imported, second_fit=again - fitted, peak_mb=peak
)))
"""


@dataclass(frozen=True)
class Options:
    """The command line."""

    methods: tuple[str, ...] = flag(tuple(METHODS), choices=tuple(METHODS))
    rounds: int = flag(
        3, "processes of each kind: nothing is trained, these are the steps", "--rounds", "--steps"
    )
    seed: int = flag(0, "of the table")
    resume: bool = flag(False, "go on from the records in --out, as happens without it, too")
    json: bool = flag(False, "print result.json to standard output")
    out: Path = flag(Path("runs/tabular_first_answer"), "folder for all that is written")


def measure(method: str, seed: int, byte_code: str) -> dict[str, float]:
    """Seconds and megabytes of one process, which keeps its compiled Python in a folder."""
    module, model = METHODS[method]
    code = _SCRIPT.format(module=module, name=model.partition("(")[0], model=model, seed=seed)
    settings = os.environ | {"PYTHONPYCACHEPREFIX": byte_code, "PYTHONWARNINGS": "ignore"}
    settings.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", code]
    start = time.perf_counter()
    done = subprocess.run(command, env=settings, capture_output=True, text=True)
    whole = time.perf_counter() - start
    if done.returncode:
        raise ValueError(f"The process of {method} failed: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout) | {"whole": whole}


def run(options: Options) -> Iterator[dict[str, Any]]:
    """A record a process: methods in turns, each on a fresh machine and then on one that ran it."""
    file = options.out / "records.jsonl"
    for number in range(options.rounds):
        for method in options.methods:
            with tempfile.TemporaryDirectory() as byte_code:
                measured = partial(measure, method, options.seed, byte_code)
                for state in ("fresh", "warm"):
                    key = {"method": method, "state": state, "round": number, "seed": options.seed}
                    yield key | measured_once(file, key, measured)


def summarise(records: list[dict[str, Any]]) -> str:
    """Medians of each method, fresh and warm; beside the whole its ratio to the reference."""

    def median(method: str, state: str, name: str) -> float:
        chosen = [r[name] for r in records if (r["method"], r["state"]) == (method, state)]
        return float(np.median(chosen)) if chosen else float("nan")

    rows = []
    for state in ("fresh", "warm"):
        for method in dict.fromkeys(record["method"] for record in records):
            imports, first, second, whole, peak = (
                median(method, state, name)
                for name in ("imports", "first_fit", "second_fit", "whole", "peak_mb")
            )
            rows.append(
                {
                    "method": f"{method}, {state}",
                    "imports, s": f"{imports:.2f}",
                    "first, second fit, s": f"{first:.3f}, {second:.3f}",
                    "whole, s": f"{whole:.2f}",
                    f"/ {REFERENCE}": f"{whole / median(REFERENCE, state, 'whole'):.2f}",
                    "peak, MB": f"{peak:.0f}",
                }
            )
    return table(rows)


@in_a_sentence
def main(arguments: list[str] | None = None) -> int:
    """Measure what is missing, then summarise all."""
    options = parse(Options, arguments, experiment="tabular_first_answer", description=__doc__)
    options.out.mkdir(parents=True, exist_ok=True)
    records = list(run(options))
    document = {"config": as_settings(options), "results": records}
    report(document, summarise(records), path=options.out / "result.json", as_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
