"""Meta-training on some assays, and what is chosen on others of them: never on those judged."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from experiments.common.documents import measured_once
from experiments.common.training_loop import resume, train
from experiments.molecules.assays import UNKNOWN, Assays, folds, generator, held_out, split
from experiments.molecules.learners import build, encoder, with_gain
from experiments.molecules.tasks import Pool, Table, auc, can_serve, draw, draws, pool_of, table_of
from jaxmeta import (
    MetaLearner,
    TrainState,
    evaluate,
    losses,
    make_step,
    meta_objective,
    scan_steps,
    training,
)
from jaxmeta.types import Task

SCREENED, NEVER = "screened before", "never screened"
CHECKS = 4  # how often a training is judged on its way, to be stopped there
TASKS_PER_STEP = 4
MOST_JUDGED, MOST_QUERIES = 8, 1024  # assays of a fold, and rows of each, to choose by
MOST_TESTED, MOST_ROWS = 40, 2**15  # in the end, which matters to files larger than these two
GAINS, DROPPED = (1.0, 3.0), (0.3, 0.5)


class Plan(NamedTuple):
    """How tasks and trainings are made: the flags of the same names."""

    shots: int
    queries: int
    steps: int
    held_share: float
    seed: int
    sizes: tuple[int, ...] = (64, 32)
    rate: float = 1e-3
    folds: int = 3

    @property
    def every(self) -> int:
        """Steps between two looks."""
        return max(1, self.steps // CHECKS)


class Part(NamedTuple):
    """Assays and molecules to learn from, and those to be judged on."""

    learned: Table
    learn: np.ndarray
    judged: Table
    judge: np.ndarray


class Choice(NamedTuple):
    """What is chosen by assays of the training ones: where the gain of known labels starts, the
    share of bits and labels that tasks do without, outer steps, and the AUC that spoke for it."""

    gain: float
    dropped: float
    steps: int
    auc: float = float("nan")


def final_part(data: Assays, setting: str, plan: Plan) -> Part:
    """All training assays against the test assays, or 40 of them by chance."""
    learn, judge = split(len(data.task))
    judge = np.sort(generator(plan.seed).permutation(judge)[:MOST_TESTED])
    return _part(data, setting, learn, judge, np.ones(len(data.label), bool), plan, plan.seed)


def choosing_parts(data: Assays, setting: str, plan: Plan) -> list[Part]:
    """The same among the training assays alone, on the molecules that meta-training may see."""
    learn, _ = split(len(data.task))
    final, found = final_part(data, setting, plan), []
    seen = np.isin(np.arange(len(data.label)), final.learned.rows)
    for n, (some, others) in enumerate(folds(learn, plan.folds)):
        others = generator(n).permutation(others)[:MOST_JUDGED]
        part = _part(data, setting, some, np.sort(others), seen, plan, plan.seed + 1 + n)
        if len(part.learn) and len(part.judge):
            found.append(part)
    return found


def _part(
    data: Assays,
    setting: str,
    learn: np.ndarray,
    judge: np.ndarray,
    may: np.ndarray,
    plan: Plan,
    seed: int,
) -> Part:
    """Assays to learn and to judge, of the molecules that may be read `[N]`."""
    columns = split(len(data.task))[0]
    if setting == SCREENED:
        learned = table_of(data, columns, learn, np.flatnonzero(may))
        judged = learned
    else:
        out = held_out(data, judge, share=plan.held_share, least=2 * plan.shots, seed=seed)
        learned, judged = (
            table_of(data, columns[:0], learn, np.flatnonzero(may & side)) for side in (~out, out)
        )
    learn, judge = (
        can_serve(table, assays, plan.shots)
        for table, assays in ((learned, learn), (judged, judge))
    )
    return Part(learned, learn, judged, judge)


class Programs(NamedTuple):
    """A learner of one family with its compiled outer steps: `run(state, pool)`."""

    learner: MetaLearner
    tx: optax.GradientTransformation
    run: Callable[[TrainState, Pool], tuple[TrainState, dict[str, Any]]]
    draw: Callable[[Pool, jax.Array], Task]


def programs(family: str, num_bytes: int, plan: Plan) -> Programs:
    """Those of one family; they are compiled once for a data set and a setting."""
    learner = build(family, encoder(num_bytes, plan.sizes))
    tx = optax.adamw(plan.rate, weight_decay=1e-2)
    step = make_step(meta_objective(learner, losses.cross_entropy), tx)
    one = partial(draw, shots=plan.shots, queries=plan.queries)

    @jax.jit
    def run(state: TrainState, pool: Pool):
        many = scan_steps(
            step, partial(one, pool), num_steps=plan.every, tasks_per_step=TASKS_PER_STEP
        )
        return many(state)

    return Programs(learner, tx, run, one)


def start(made: Programs, pool: Pool, choice: Choice, plan: Plan) -> TrainState:
    """The state before the first step."""
    key = jax.random.key(plan.seed)
    state = training.init(made.learner, made.tx, key, jax.jit(made.draw)(pool, key))
    return state._replace(theta=with_gain(state.theta, choice.gain))


def pool_for(data: Assays, part: Part, dropped: float) -> Pool:
    """The pool of a part, of one shape for all parts of a data set."""
    learn, _ = split(len(data.task))
    most = max(int((data.label[:, learn] == label).sum(axis=0).max()) for label in (0, 1))
    return pool_of(part.learned, part.learn, (len(learn), most), dropped)


def judge(
    learner: MetaLearner, theta: Any, part: Part, plan: Plan, count: int, most: int | None = None
) -> np.ndarray:
    """The AUC of each assay and draw `[A, count]`, on all query rows or on `most` by chance."""
    size, found = query_rows(part), []
    size = size if most is None else min(size, most)
    for assay in part.judge:
        tasks = draws(part.judged, assay, shots=plan.shots, count=count, most=size, seed=plan.seed)
        result = evaluate(learner, theta, tasks, metric=auc, tasks_per_chunk=1)
        found.append(result.per_task)
    return np.array(found, float).reshape(len(part.judge), count)


def query_rows(part: Part) -> int:
    """As many as an assay has, as a power of two: parts of about one size share one program."""
    known = part.judged.label[part.judged.rows][:, part.judge] != UNKNOWN
    return min(MOST_ROWS, 1 << int(known.sum(axis=0).max(initial=1)).bit_length())


def choose(
    made: Programs, data: Assays, setting: str, plan: Plan, *, out: Path, name: str
) -> Choice:
    """The best start, dropping and number of steps, by the mean AUC on assays held back."""
    candidates = [Choice(gain, DROPPED[-1], 0) for gain in GAINS]
    if setting == NEVER:
        candidates = [Choice(GAINS[0], dropped, 0) for dropped in DROPPED]
    parts = choosing_parts(data, setting, plan)
    if not parts or not plan.steps:
        return candidates[-1]._replace(steps=plan.steps // plan.every * plan.every)

    def on_the_way(part: Part, choice: Choice) -> list[float]:
        pool = pool_for(data, part, choice.dropped)
        state, found = start(made, pool, choice, plan), []
        for _ in range(plan.steps // plan.every):
            state, _ = made.run(state, pool)
            values = judge(made.learner, state.theta, part, plan, 2, MOST_QUERIES)
            found.append(float(np.mean(values)))
        return found

    tried = []
    for choice in candidates:
        key = {"name": name, "plan": plan._asdict(), "choice": choice._asdict()}
        looks = np.mean(
            [
                measured_once(
                    out / "rows.jsonl", key | {"fold": n}, partial(on_the_way, part, choice)
                )
                for n, part in enumerate(parts)
            ],
            axis=0,
        )
        best = int(np.argmax(looks))
        tried.append(choice._replace(steps=(best + 1) * plan.every, auc=float(looks[best])))
    return max(tried, key=lambda choice: choice.auc)


def fit(
    made: Programs,
    data: Assays,
    part: Part,
    choice: Choice,
    plan: Plan,
    *,
    name: str,
    out: Path,
    go_on: bool,
) -> Any:
    """theta after the chosen steps on all training assays; `go_on` takes up the newest state."""
    pool = pool_for(data, part, choice.dropped)
    state, seconds = start(made, pool, choice, plan), 0.0
    config = {**plan._asdict(), "sizes": list(plan.sizes), **choice._asdict()}
    del config["auc"]  # NaN is not equal to itself
    if go_on:
        state, seconds = resume(state, name=name, config=config, out=out)
    state, _ = train(
        lambda state: made.run(state, pool),
        state,
        name=name,
        config=config,
        num_steps=choice.steps,
        out=out,
        seconds_before=seconds,
    )
    return state.theta
