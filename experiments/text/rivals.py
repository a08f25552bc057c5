"""One small task after the other, and what each classifier says of its sentences."""

import functools
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from experiments.text.baselines import Answers, mass_sets
from experiments.text.intents import Intents
from jaxmeta import learners, networks
from jaxmeta.embeddings import FewShotClassifier
from jaxmeta.types import Examples, Task

STRENGTHS = (1e1, 1e2, 1e3, 1e4, 1e5)
"""scikit-learn's C, to choose from by log-loss."""
_TOLERANCE = 1e-6  # by default, 1e-4, a C of 10,000 stops early, where it is worse


class Size(NamedTuple):
    """Of a task: intents, sentences of each to learn from, and to judge on."""

    ways: int
    shots: int
    queries: int


class FewShotTask(NamedTuple):
    """A task of C intents.

    Attributes:
      x: sentences to learn from `[C * shots, F]`.
      y: their intents, 0..C-1 `[C * shots]`.
      names: of the intents `[C, F]`.
      queries: sentences to judge on, then strangers `[C * queries + M, F]`.
      answers: the intents of the former `[C * queries]`.
      held: the labels of the intents in their data set `[C]`.
    """

    x: np.ndarray
    y: np.ndarray
    names: np.ndarray
    queries: np.ndarray
    answers: np.ndarray
    held: np.ndarray


class Said(NamedTuple):
    """What a classifier says of a task.

    Attributes:
      scores: of the queries, the largest is the answer; probabilities if there are sets `[Q, C]`.
      sets: which intents cannot be excluded, bool `[Q, C]`; None for scores without probabilities.
      strange: of queries and strangers, larger is stranger `[Q + M]`.
      fit_ms: how long it took to learn.
    """

    scores: np.ndarray
    sets: np.ndarray | None
    strange: np.ndarray
    fit_ms: float


Classifier = Callable[[FewShotTask], Said]


def draw(
    data: Intents, classes: np.ndarray, size: Size, num: int, seed: Any, strangers: np.ndarray
) -> list[FewShotTask]:
    """Tasks of some intents; to each, as many strangers as an intent has queries, times ten.

    Raises:
      ValueError: for too few intents with sentences enough.
    """
    rng, each = np.random.default_rng(seed), size.shots + size.queries
    rows = {c: np.flatnonzero(data.label == c) for c in classes}
    pool = np.array([c for c in classes if len(rows[c]) >= each])
    if len(pool) < size.ways:
        raise ValueError(
            f"{data.name}: {size.ways} ways of {size.shots} + {size.queries} sentences were asked "
            f"for, and {len(pool)} of {len(classes)} intents to draw from have so many."
        )
    tasks = []
    for _ in range(num):
        held = rng.choice(pool, size.ways, replace=False)
        drawn = np.stack([rng.choice(rows[c], each, replace=False) for c in held])
        support, query = drawn[:, : size.shots].ravel(), drawn[:, size.shots :].ravel()
        few = rng.permutation(len(strangers))[: 10 * size.queries]
        queries = np.concatenate([data.embedding[query], strangers[few]]).astype(np.float32)
        y, answers = (np.repeat(np.arange(size.ways), n) for n in (size.shots, size.queries))
        x, names = (a.astype(np.float32) for a in (data.embedding[support], data.name_embedding))
        tasks.append(FewShotTask(x, y, names[held], queries, answers, held))
    return tasks


def of_library(model: FewShotClassifier) -> Classifier:
    """`FewShotClassifier` from names and sentences."""

    def classify(task: FewShotTask) -> Said:
        names, start = dict(enumerate(task.names)), time.perf_counter()
        model.fit(task.x, task.y, names)
        ms = 1e3 * (time.perf_counter() - start)
        known = task.queries[: len(task.answers)]
        scores, sets = model.predict_proba(known), model.predict_set(known)
        return Said(scores, sets, model.outlier_score(task.queries), ms)

    return classify


def logistic(strength: float, level: float, *, named: bool) -> Classifier:
    """Logistic regression, with the names as further rows or not; strange by its largest logit."""
    from sklearn.linear_model import LogisticRegression

    def classify(task: FewShotTask) -> Said:
        x = np.concatenate([task.x, task.names]) if named else task.x
        y = np.concatenate([task.y, np.arange(len(task.names))]) if named else task.y
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The number of unique classes")  # names alone
            start = time.perf_counter()
            model = LogisticRegression(C=strength, tol=_TOLERANCE, max_iter=2000).fit(x, y)
            ms = 1e3 * (time.perf_counter() - start)
        z = model.decision_function(task.queries)
        return _of_logits(np.stack([-z / 2, z / 2], 1) if z.ndim == 1 else z, task, level, ms)

    return classify


def nearest_centroid(task: FewShotTask) -> Said:
    """The nearest mean by cosine, or the nearest name where there is no sentence."""
    start = time.perf_counter()
    x, y = (task.x, task.y) if len(task.x) else (task.names, np.arange(len(task.names)))
    sums = np.stack([x[y == c].sum(axis=0) for c in range(len(task.names))])
    sums /= np.linalg.norm(sums, axis=1, keepdims=True)
    ms = 1e3 * (time.perf_counter() - start)
    z = task.queries @ sums.T
    return Said(z[: len(task.answers)], None, -z.max(axis=1), ms)


def prototypes(temperature: float, level: float) -> Classifier:
    """The library's prototypes by cosine, at a temperature."""

    def classify(task: FewShotTask) -> Said:
        adapt, predict = _prototypes(len(task.names), task.x.shape[1])
        support = _examples(task.x, task.y)
        start = time.perf_counter()
        w = jax.block_until_ready(adapt(support))
        ms = 1e3 * (time.perf_counter() - start)
        z = np.asarray(predict(w, task.queries), np.float64)
        return _of_logits(z / temperature, task, level, ms)

    return classify


@functools.cache
def _prototypes(ways: int, num_features: int) -> tuple[Any, Any]:
    learner = learners.prototypes(networks.identity(), distance="cosine", ways=ways, scale=1.0)
    nothing = _examples(np.zeros((ways, num_features), np.float32), np.arange(ways))
    theta = learner.init(jax.random.key(0), Task(nothing, nothing))
    return (
        jax.jit(lambda support: learner.adapt(theta, support)),
        jax.jit(lambda w, x: learner.predict(theta, w, x)),
    )


def _examples(x: np.ndarray, y: np.ndarray) -> Examples:
    return Examples(jnp.asarray(x), jnp.asarray(y), jnp.ones(len(y)))


def _of_logits(z: np.ndarray, task: FewShotTask, level: float, ms: float) -> Said:
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p = (p / p.sum(axis=1, keepdims=True))[: len(task.answers)]
    return Said(p, mass_sets(Answers(p[None], task.answers[None]), level)[0], -z.max(axis=1), ms)


def loss_of(classify: Classifier, tasks: Sequence[FewShotTask]) -> float:
    """The mean log-loss of a classifier with probabilities."""
    found = []
    for task in tasks:
        p = classify(task).scores[np.arange(len(task.answers)), task.answers]
        found.append(-np.log(np.maximum(p, 1e-12)).mean())
    return float(np.mean(found))


def best_strength(tasks: Sequence[FewShotTask], level: float, *, named: bool) -> float:
    """The C of the least log-loss on tasks of training intents."""
    losses = [loss_of(logistic(c, level, named=named), tasks) for c in STRENGTHS]
    return STRENGTHS[int(np.argmin(losses))]


def best_temperature(tasks: Sequence[FewShotTask], level: float) -> float:
    """The temperature of prototypes with the least log-loss on tasks of training intents."""
    found = optimize.minimize_scalar(
        lambda log_t: loss_of(prototypes(np.exp(log_t), level), tasks),
        bounds=(-5.0, 1.0),
        method="bounded",
        options={"xatol": 0.02},
    )
    return float(np.exp(found.x))
