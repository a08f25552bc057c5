"""Few-shot intents on frozen sentence embeddings: from names, from a few sentences, or from both.

Claim: with theta from CLINC150's intents alone, names and a few sentences of new intents give
  probabilities, sets and a sign of what is out of scope, at the accuracy of logistic regression.
Command: python -m experiments.intents --data-dir DIR
Expected: the tables in experiments/text/RESULTS.md.
Time: about twenty minutes on 2 CPU cores.

Of the data set that theta comes from, intents of the given splits are judged, with theta from the
training intents of each; of others, all intents. Rivals choose C and temperature on the intents
that theta comes from, one of them also on intents of the domain that is judged.

    python -m experiments.intents --data-dir DIR --what sets

asks instead whether sets of prototypes that are calibrated on other intents hold the right one nine
times in ten on new ones, and how large they are.
"""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from experiments.common.command_line import as_settings, flag, in_a_sentence, parse
from experiments.common.documents import report
from experiments.common.run import begin
from experiments.common.training_loop import cache_compilations
from experiments.text import comparison, named, plots, sets
from experiments.text.intents import SPLITS
from jaxmeta import checkpoint

DEFAULTS = MappingProxyType(
    {
        "names": {"ways": (5, 15, 25), "shots": (0, 1, 5), "steps": 600, "eval_tasks": 200},
        "sets": {"ways": (5, 15), "shots": (1, 5), "steps": 200, "eval_tasks": 500},
    }
)


@dataclass(frozen=True)
class Options:
    """The command line."""

    data_dir: str | None = flag(None, "folder of the data sets (or JAXMETA_DATA)")
    what: Literal["names", "sets"] = flag("names", "names and sentences, or sets of prototypes")
    dataset: tuple[str, ...] = flag(("banking77", "clinc150"), "names of the files")
    past: str = flag("clinc150", "the data set that theta is learned from")
    shipped: bool = flag(False, "the theta that ships, in the place of one of all past intents")
    splits: int = flag(2, "splits of the past data set that are judged, each with its theta")
    ways: tuple[int, ...] | None = flag(None, "intents of a task")
    shots: tuple[int, ...] | None = flag(None, "sentences of each intent to learn from")
    queries: int = flag(5, "query sentences of each intent")
    level: float = flag(0.9, "how often a set is to hold the right intent")
    steps: int | None = flag(None, "steps of meta_fit (600); for sets, of the temperature (200)")
    eval_tasks: int | None = flag(None, "tasks to judge on: of each size; for sets, of each split")
    baseline_tasks: int = flag(100, "for sets: of these, for logistic regression")
    seed: int = 0
    resume: bool = flag(False, "go on from the states in --out")
    json: bool = flag(False, "print result.json to standard output")
    out: Path = flag(Path("runs/intents"), "folder for all that is written")


def with_defaults(options: Options) -> Options:
    """The options with what was not given, of the question that is asked.

    Raises:
      ValueError: for a number of splits or shots that there cannot be.
    """
    unset: dict[str, Any] = {
        k: v for k, v in DEFAULTS[options.what].items() if getattr(options, k) is None
    }
    options = dataclasses.replace(options, **unset)
    if options.splits > SPLITS:
        raise ValueError(f"--splits is {SPLITS} at most, got {options.splits}.")
    if not 0 < options.level < 1:
        raise ValueError(f"--level is between 0 and 1, got {options.level}.")
    return options


def judged(options: Options) -> tuple[list[dict[str, Any]], str]:
    """The rows of the question that is asked, and the same as text."""
    if options.what == "sets":
        rows = sets.judged_sets(options)
        return rows, sets.as_text(rows)
    rows = named.judged_names(options)
    plots.reliability_of(rows, options.out / "reliability.png")
    plots.accuracy_by_shots(rows, options.out / "accuracy.png")
    return rows, comparison.as_text(rows)


@in_a_sentence
def main(arguments: list[str] | None = None) -> int:
    """Learn, judge, draw, and write everything down."""
    least = {"shots": 0, "ways": 2}
    options = parse(Options, arguments, experiment="intents", description=__doc__, least=least)
    options = with_defaults(options)
    begin(options.out, go_on=options.resume)
    rows, text = judged(options)
    document = {"config": as_settings(options), "results": rows}
    document["versions"] = checkpoint.versions()
    report(document, text, path=options.out / "result.json", as_json=options.json)
    return 0


if __name__ == "__main__":
    cache_compilations()
    sys.exit(main())
