"""Intents by names and a few sentences: theta from past intents, judged on others."""

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from experiments.common.documents import measured_once
from experiments.text import rivals
from experiments.text.comparison import OURS, RIVAL, TUNED, difference, of_tasks, row_of
from experiments.text.intents import Intents, load, load_strangers
from experiments.text.rivals import Classifier, FewShotTask, Size
from jaxmeta.embeddings import FewShotClassifier

_FOR_CHOICE = 16  # tasks of training intents, by which rivals choose C and temperature


class Study(NamedTuple):
    """Which intents are judged, and from which all has to be learned.

    Attributes:
      data: the data set that is judged.
      judged: its intents that are drawn from.
      past: the data set of the intents that theta, C and temperature come from.
      learned: these intents.
      part: the split, from 1; 0 for all intents of another domain.
    """

    data: Intents
    judged: np.ndarray
    past: Intents
    learned: np.ndarray
    part: int


def studies_of(data: Intents, past: Intents, splits: int) -> list[Study]:
    """Within the data set of the past by its splits; of another, all intents are new."""
    if data.name != past.name:
        return [Study(data, np.unique(data.label), past, np.unique(past.label), 0)]
    parts = data.splits[:splits]
    return [Study(data, s["test"], data, s["train"], i + 1) for i, s in enumerate(parts)]


def learned(study: Study, options: Any) -> FewShotClassifier:
    """A classifier with theta from past intents; kept in the folder of the run.

    Raises:
      ValueError: for a theta there that was made with other settings.
    """
    model = FewShotClassifier(level=options.level, random_state=options.seed)
    if options.shipped and not study.part:
        return model
    path = options.out / f"{study.past.name}-{study.part or 'all'}.theta"
    wanted = {"seed": options.seed, "num_steps": options.steps, "classes": len(study.learned)}
    if options.resume and path.exists():
        model.load_theta(path)
        if wanted != {key: model.about_[key] for key in wanted}:
            raise ValueError(f"{path} was learned with {model.about_}: name another --out.")
        return model
    past, rows = study.past, np.isin(study.past.label, study.learned)
    names = {int(c): past.name_embedding[c] for c in study.learned}
    x = past.embedding[rows].astype(np.float32)
    model.meta_fit(x, past.label[rows], names, num_steps=options.steps)
    model.save_theta(path)
    return model


def chosen(study: Study, size: Size, options: Any) -> dict[str, float]:
    """C of each logistic regression and the temperature of prototypes, by training intents."""
    seed = (options.seed, 1, study.part, *size)
    none = np.zeros((0, study.data.embedding.shape[1]))
    tasks = rivals.draw(study.past, study.learned, size, _FOR_CHOICE, seed, none)
    level, found = options.level, {}
    found[RIVAL] = rivals.best_strength(tasks, level, named=True)
    if size.shots:
        found["logistic regression"] = rivals.best_strength(tasks, level, named=False)
        found["prototypes"] = rivals.best_temperature(tasks, level)
    if study.data.name != study.past.name:
        own = rivals.draw(study.data, study.data.splits[0]["train"], size, _FOR_CHOICE, seed, none)
        found[TUNED] = rivals.best_strength(own, level, named=True)
    return found


def classifiers(
    model: FewShotClassifier, size: Size, numbers: dict[str, float], level: float
) -> Iterator[tuple[str, Classifier]]:
    """All that are compared; without sentences, those that read names."""
    yield OURS, rivals.of_library(model)
    yield "nearest centroid", rivals.nearest_centroid
    if size.shots:
        yield "prototypes", rivals.prototypes(numbers["prototypes"], level)
        c = numbers["logistic regression"]
        yield "logistic regression", rivals.logistic(c, level, named=False)
    for name in (RIVAL, TUNED):
        if name in numbers:
            yield name, rivals.logistic(numbers[name], level, named=True)


def measure(
    study: Study, size: Size, options: Any, thetas: dict[int, FewShotClassifier]
) -> dict[str, Any]:
    """What all classifiers do on the same tasks of one study; theta is learned once a part."""
    strangers = load_strangers(options.data_dir, study.data.embedding.shape[1])
    seed, num = (options.seed, 0, study.part, *size), options.eval_tasks
    num = num if not study.part else -(-num // options.splits)
    tasks = rivals.draw(study.data, study.judged, size, num, seed, strangers)
    if study.part not in thetas:
        thetas[study.part] = learned(study, options)
    model, numbers = thetas[study.part], chosen(study, size, options)
    found: dict[str, Any] = {}
    for name, classify in classifiers(model, size, numbers, options.level):
        if name == TUNED and numbers[TUNED] == numbers[RIVAL]:
            found[name] = found[RIVAL]
            continue
        classify(tasks[0])  # warm
        found[name] = of_tasks([classify(task) for task in tasks], tasks)
    held = np.stack([task.held for task in tasks])
    return {"found": found, "held": held, "chosen": numbers, "bytes": exported(model, tasks[0])}


def exported(model: FewShotClassifier, task: FewShotTask) -> int:
    """Bytes of the file that a fitted classifier becomes."""
    model.fit(task.x, task.y, dict(enumerate(task.names)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "intents.py"
        model.export(path)
        return path.stat().st_size


def rows_of(data: Intents, size: Size, parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each classifier, of the tasks of all splits."""
    held = np.concatenate([np.asarray(part["held"]) for part in parts])
    joined = {
        name: {
            key: np.concatenate([np.asarray(part["found"][name][key], float) for part in parts])
            for key in first
        }
        for name, first in parts[0]["found"].items()
    }
    rows = []
    for name, found in joined.items():
        about = {"dataset": data.name, "ways": size.ways, "shots": size.shots, "learner": name}
        row = about | row_of(found, held) | {"inductive": True, "splits": len(parts)}
        rivals_of = [each for each in (RIVAL, TUNED) if each in joined and each != name]
        row["less"] = {each: difference(found, joined[each], held) for each in rivals_of}
        row["chosen"] = [part["chosen"][name] for part in parts if name in part["chosen"]]
        if name == OURS:
            row["bytes"] = parts[0]["bytes"]
        rows.append(row)
    return rows


def judged_names(options: Any) -> list[dict[str, Any]]:
    """The rows of all data sets and sizes; what was measured before a resume is not done again."""
    past = load(options.data_dir, options.past)
    sets = [past if name == past.name else load(options.data_dir, name) for name in options.dataset]
    sizes = [
        Size(ways, shots, options.queries)
        for ways, shots in itertools.product(options.ways, options.shots)
    ]
    kept = ("seed", "steps", "eval_tasks", "level", "splits", "shipped", "past")
    config = {key: getattr(options, key) for key in kept}
    studies = {data.name: studies_of(data, past, options.splits) for data in sets}
    for study in itertools.chain(*studies.values()):  # whatever is refused is refused at once
        for size in sizes:
            rivals.draw(study.data, study.judged, size, 1, 0, study.data.embedding[:0])
    rows, thetas, work = [], {}, list(itertools.product(sets, sizes))
    for data, size in tqdm(work, unit="size", disable=None):
        parts = []
        for study in studies[data.name]:
            key = config | size._asdict() | {"dataset": data.name, "part": study.part}
            parts.append(
                measured_once(
                    options.out / "rows.jsonl",
                    key,
                    lambda study=study, size=size: measure(study, size, options, thetas),
                )
            )
        rows += rows_of(data, size, parts)
    return rows
