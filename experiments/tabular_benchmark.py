"""Small tables: the meta-net's one forward pass against tuned classifiers.

Claim: one emitted w has a lower log-loss than cross-validated logistic regression and than a
  random forest, in milliseconds.
Command: python -m experiments.tabular_benchmark --data-dir DIR
Expected: the table in experiments/tabular/RESULTS.md.
Time: about an hour on one CPU core, nearly all of it the baselines'; a run goes on from the
  `records.jsonl` that it finds, and `--splits 5` takes a quarter.
"""

import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.command_line import as_settings, flag, in_a_sentence, parse
from experiments.common.documents import append_json, read_records, report
from experiments.common.training_loop import cache_compilations
from experiments.tabular import baselines, summary
from experiments.tabular.tables import Split, Table, draw_split, judge, load_tables
from jaxmeta.tabular import MetaClassifier

OURS = {"meta-net": None, "meta-net, 24 terms": 24, "meta-net, 12 terms": 12}
_ROW_REPEATS = 20


@dataclass(frozen=True)
class Options:
    """The command line."""

    methods: tuple[str, ...] = flag(
        (*OURS, *baselines.BASELINES), choices=(*OURS, *baselines.BASELINES)
    )
    data_dir: str | None = flag(None, "folder of the tables; by default JAXMETA_DATA")
    rows: int = flag(100, "support rows")
    splits: int = flag(
        20, "of each table: nothing is trained, these are the steps", "--splits", "--steps"
    )
    seed: int = flag(0, "number of the first split")
    resume: bool = flag(False, "go on from the records in --out, as happens without it, too")
    json: bool = flag(False, "print result.json to standard output")
    out: Path = flag(Path("runs/tabular_benchmark"), "folder for all that is written")

    @property
    def split_numbers(self) -> range:
        """The splits of each table, by number."""
        return range(self.seed, self.seed + self.splits)


def measure(method: str, split: Split) -> dict[str, Any]:
    """Fit, predict and judge one method on one split; milliseconds beside, without compilation."""
    support, test = split
    model = build(method, support)
    if method in OURS:
        model.fit(support.x, support.y)
    start = time.perf_counter()
    model.fit(support.x, support.y)
    fitted = time.perf_counter()
    probabilities = model.predict_proba(test.x)
    predicted = time.perf_counter()
    rows = []
    for _ in range(_ROW_REPEATS if method in OURS else 3):
        row_start = time.perf_counter()
        model.predict_proba(test.x[:1])
        rows.append(time.perf_counter() - row_start)
    return (
        judge(probabilities, test.y)
        | {
            "fit_ms": 1e3 * (fitted - start),
            "predict_ms": 1e3 * (predicted - fitted),
            "predict_row_ms": 1e3 * min(rows),
        }
        | ({"terms": _live_terms(model)} if method in OURS else {})
    )


def build(method: str, support: Table) -> Any:
    """One of the baselines, or the meta-net."""
    if method in OURS:
        codes = np.flatnonzero(support.categorical)
        return MetaClassifier(OURS[method], categorical_features=codes.tolist())
    return baselines.build(method, support)


def _live_terms(model: MetaClassifier) -> int:
    return sum(int(w.kernel.any(axis=1).sum()) for w in model.emitted_)


def jobs(tables: list[Table], options: Options) -> Iterator[tuple[str, int, Table]]:
    """Splits outermost: a run that is cut short has whole splits."""
    for seed in options.split_numbers:
        for table in tables:
            for method in options.methods:
                yield method, seed, table


def run(tables: list[Table], options: Options) -> None:
    """Append a record for each job that `records.jsonl` has not."""
    file = options.out / "records.jsonl"
    identity = ("method", "set", "rows", "split")
    records = read_records(file) if file.exists() else ()
    done = {tuple(record[key] for key in identity) for record in records}
    for method, seed, table in jobs(tables, options):
        name = dict(zip(identity, (method, table.name, options.rows, seed), strict=True))
        split = draw_split(table, rows=options.rows, seed=seed)
        if split is None or tuple(name.values()) in done:
            continue
        record = name | {"classes": int(table.y.max()) + 1} | measure(method, split)
        append_json(file, record)


def summarise(options: Options) -> None:
    """Print the table, and write it and the pictures.

    Raises:
      ValueError: if nothing was measured.
    """
    file = options.out / "records.jsonl"
    records = list(read_records(file)) if file.exists() else []
    records = [
        r for r in records if r["method"] in options.methods and r["split"] in options.split_numbers
    ]
    table = summary.by_set(records, options.rows)
    if not table or not len(next(iter(table.values()))["log_loss"]):
        raise ValueError(
            f"No table gives a split of {options.rows} support rows, two of each class at least, "
            "and rows enough to be judged on: take other --rows."
        )
    reference = next((name for name in OURS if name in table), next(iter(table)))
    text = summary.as_text(table, reference)
    summary.draw(table, options.rows, options.out)
    number = len(table[reference]["log_loss"])
    splits = len({r["split"] for r in records if r["rows"] == options.rows})
    head = f"{options.rows} support rows, {number} data sets, at most {splits} splits each:"
    costs = (
        summary.cost_of_few_terms(records, options.rows, reference, few) for few in list(OURS)[1:]
    )
    text = "\n".join([text, *filter(None, costs)])
    (options.out / f"table_{options.rows}.txt").write_text(text + "\n")
    document = {"config": as_settings(options), "results": records}
    path = options.out / "result.json"
    report(document, f"{head}\n{text}", path=path, as_json=options.json)


@in_a_sentence
def main(arguments: list[str] | None = None) -> int:
    """Measure what is missing, then summarise all."""
    options = parse(Options, arguments, experiment="tabular_benchmark", description=__doc__)
    options.out.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore")
    run(load_tables(options.data_dir), options)
    summarise(options)
    return 0


if __name__ == "__main__":
    cache_compilations()
    sys.exit(main())
