"""A new assay from ten active and ten inactive molecules, learned from other assays.

Claim: on molecules that were screened before, what is known of them under other assays and a
  meta-learned way to read it beat any classifier of the twenty fingerprints. On molecules that were
  never screened little is left of that, and both are printed.
Command: python -m experiments.assays --data-dir DIR
Expected: the table in experiments/molecules/RESULTS.md.
Time: about twenty minutes on 2 CPU cores for Tox21 and SIDER.

The last quarter of the assays of a file is judged; learners train on the others. Where a learner
starts, how much of its input is dropped and when it stops is chosen on assays held back from these.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.command_line import (
    as_settings,
    check_finite,
    flag,
    in_a_sentence,
    parse,
)
from experiments.common.documents import measured_once, report
from experiments.common.run import begin
from experiments.common.training_loop import cache_compilations
from experiments.molecules.assays import Assays, files, load
from experiments.molecules.fitting import (
    NEVER,
    SCREENED,
    Part,
    Plan,
    choose,
    final_part,
    fit,
    judge,
    programs,
)
from experiments.molecules.learners import FAMILIES
from experiments.molecules.rivals import judge_rival, rivals_of
from experiments.molecules.tables import about, as_text, compared, draw_results, row
from jaxmeta import checkpoint

SETTINGS = (SCREENED, NEVER)


@dataclass(frozen=True)
class Options:
    """The command line."""

    data_dir: str | None = flag(None, "folder of the files (or JAXMETA_DATA)")
    data: tuple[str, ...] | None = flag(None, "names of the files; all by default", nargs="+")
    learner: tuple[str, ...] = flag(FAMILIES, "families to train", choices=FAMILIES)
    shots: int = flag(10, "labelled molecules of either kind")
    draws: int = flag(10, "draws of these, for each assay")
    queries: int = flag(16, "query molecules of either kind, in training")
    steps: int = flag(160, "most outer steps; how many is chosen")
    share: float = flag(0.3, "of the molecules, never to be seen in training")
    seed: int = 0
    resume: bool = flag(False, "go on from the states in --out")
    json: bool = flag(False, "print result.json to standard output")
    out: Path = flag(Path("runs/assays"), "folder for all that is written")

    @property
    def plan(self) -> Plan:
        """What trainings read of it."""
        return Plan(self.shots, self.queries, self.steps, self.share, self.seed)


def learned(options: Options, data: Assays, setting: str, part: Part) -> Any:
    """Each family with what was chosen for it, and its AUC of each assay and draw."""
    for family in options.learner:
        name = f"{data.name}-{setting.replace(' ', '-')}-{family}"
        made = programs(family, data.bits.shape[1], options.plan)
        choice = choose(made, data, setting, options.plan, out=options.out, name=name)
        settings = {"name": name, "out": options.out, "go_on": options.resume}
        theta = fit(made, data, part, choice, options.plan, **settings)
        check_finite(theta, f"{family} on {data.name}")
        yield family, choice, judge(made.learner, theta, part, options.plan, options.draws)


def rivals(options: Options, data: Assays, setting: str, part: Part) -> dict[str, np.ndarray]:
    """The AUC of each rival, assay and draw; those of a run that goes on are not fitted again."""
    found = {}
    for name in rivals_of(setting):
        settings = (options.shots, options.draws, options.share, options.seed)
        values = measured_once(
            options.out / "rows.jsonl",
            {"rival": name, "data": data.name, "setting": setting, "about": settings},
            lambda name=name: judge_rival(name, part, options.plan, options.draws).tolist(),
        )
        found[name] = np.array(values, float).reshape(len(part.judge), options.draws)
    return found


def results(options: Options, data: Assays, setting: str, part: Part) -> list[dict[str, Any]]:
    """The rows of one data set in one setting."""
    values = rivals(options, data, setting, part)
    names, rows = tuple(values), []
    if len(part.judge):
        for family, choice, found in learned(options, data, setting, part):
            values[family] = found
            rows.append(row(data, setting, family, part, found) | {"chosen": choice._asdict()})
    rows += [row(data, setting, name, part, values[name]) for name in names]
    return compared(rows, values, names)


@in_a_sentence
def main(arguments: list[str] | None = None) -> int:
    """Choose, train, judge, draw, and write everything down."""
    options = parse(Options, arguments, experiment="assays", description=__doc__)
    begin(options.out, go_on=options.resume)
    sets = [load(options.data_dir, name) for name in options.data or files(options.data_dir)]
    rows, described = [], {}
    for data in sets:
        parts = {setting: final_part(data, setting, options.plan) for setting in SETTINGS}
        described[data.name] = about(data, parts)
        for setting, part in parts.items():
            if not len(part.learn):
                raise ValueError(
                    f"No training assay of {data.name} has more than {options.shots} molecules of "
                    "either label: lower --shots."
                )
            rows += results(options, data, setting, part)
    draw_results(rows, options.out / "assays.png")
    document = {"config": as_settings(options), "results": rows, "data": described}
    document["versions"] = checkpoint.versions()
    report(document, as_text(rows), path=options.out / "result.json", as_json=options.json)
    return 0


if __name__ == "__main__":
    cache_compilations()
    sys.exit(main())
