"""Theta from past classes: scalars by descent, and what held-out classes say of sets and strangers.

Runs in JAX; `fit` and `predict` do not.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxmeta import losses
from jaxmeta._absent import is_absent
from jaxmeta.embeddings._formula import HeadTheta
from jaxmeta.embeddings._learner import named_head
from jaxmeta.embeddings._tasks import PastClasses, past_classes, varied_tasks
from jaxmeta.embeddings._theta import LEVELS, Calibration, mass_before, strangeness
from jaxmeta.evaluation import conformal_threshold
from jaxmeta.objective import meta_objective
from jaxmeta.training import init, make_step, sample_tasks, step_keys
from jaxmeta.types import Examples, Sampler, Task, TrainState

_WAYS = (5, 25)
_TASKS = (24, 8)  # of each size, in one outer step
_QUERIES = 4
_MOST = 10  # support rows a class
_RATE = 0.05
_HELD_OUT = 0.4  # of the classes, if there are enough to be worth it
_ENOUGH = 20
_CALIBRATION_WAYS, _CALIBRATION_TASKS, _TASKS_A_CLASS = 10, 1200, 20


def learn(
    x: np.ndarray,
    codes: np.ndarray,
    names: np.ndarray,
    known: np.ndarray,
    *,
    seed: int,
    num_steps: int,
    noise: float,
    say: Callable[[str], None],
) -> tuple[HeadTheta, Calibration]:
    """Theta, and its calibration, from rows of unit length `[N, D]` of classes `[N]`.

    Args:
      x: the rows.
      codes: their classes, 0..K-1, each with two rows or more.
      names: vectors of unit length in the space of the rows `[K, D]`, zeros where there is none.
      known: 1 where a class has a name `[K]`.
      seed: of the tasks, and of which classes are held out.
      num_steps: outer steps.
      noise: as `meta_fit` has it.
      say: is told how far it is.
    """
    data = past_classes(x, codes, names, known)
    key, other = jax.random.split(jax.random.key(seed))
    mixed = np.random.default_rng(seed).permutation(len(names))
    held = round(_HELD_OUT * len(names)) if len(names) >= _ENOUGH else 0
    train, calibration = mixed[held:], mixed[:held] if held else mixed
    theta = _train(data, train, key, num_steps, noise, say)
    return theta, _calibrate(data, calibration, theta, other, say)


class Sizes(NamedTuple):
    """What is static of tasks: ways of each kind, support and query rows, the largest class."""

    ways: tuple[int, ...]
    most: int
    queries: int
    capacity: int


def _sizes(data: PastClasses, classes: np.ndarray) -> Sizes:
    """The sizes of task that the classes have rows for."""
    capacity = int(np.asarray(data.counts)[classes].max())
    queries = max(1, min(_QUERIES, capacity // 2))
    ways = tuple(sorted({min(ways, len(classes)) for ways in _WAYS}))
    return Sizes(ways, max(1, min(_MOST, capacity - queries)), queries, capacity)


def _sampler(
    data: PastClasses, classes: np.ndarray, ways: int, sizes: Sizes, **options: Any
) -> Sampler:
    _, most, queries, capacity = sizes
    rows = {"most": most, "queries": queries, "capacity": capacity}
    return varied_tasks(data, classes, ways=ways, **rows, **options)


def _train(
    data: PastClasses,
    classes: np.ndarray,
    key: jax.Array,
    num_steps: int,
    noise: float,
    say: Callable[[str], None],
) -> HeadTheta:
    sizes = _sizes(data, classes)
    turns = -(-num_steps // len(sizes.ways))
    tx = optax.adam(optax.cosine_decay_schedule(_RATE, len(sizes.ways) * max(1, turns)))
    learners = [named_head(ways=ways) for ways in sizes.ways]
    objectives = [
        meta_objective(learner, losses.cross_entropy, report_density=False) for learner in learners
    ]
    steps = [make_step(objective, tx) for objective in objectives]

    # The rows are an argument: as constants they would be compiled into the program, for minutes.
    @jax.jit
    def turn(state: TrainState, data: PastClasses) -> tuple[TrainState, jax.Array]:
        found = []
        for ways, num, step in zip(sizes.ways, _TASKS, steps, strict=False):
            sampler = _sampler(data, classes, ways, sizes, noise=noise)
            state, metrics = step(state, sample_tasks(sampler, step_keys(state).sample, num))
            found.append(metrics["loss"])
        return state, jnp.stack(found).mean()

    nothing = Examples(jnp.zeros((1, 1)), jnp.zeros(1, jnp.int32), jnp.ones(1))
    state = init(learners[0], tx, key, Task(nothing, nothing))
    start = time.monotonic()
    for i in range(turns):
        state, loss = turn(state, data)
        if i % 20 == 19 or i == turns - 1:
            say(f"step {i + 1} of {turns}: loss {loss:.3f}, {time.monotonic() - start:.0f} s")
    return HeadTheta(*(float(value) for value in state.theta))


def _calibrate(
    data: PastClasses,
    classes: np.ndarray,
    theta: HeadTheta,
    key: jax.Array,
    say: Callable[[str], None],
) -> Calibration:
    """How far sets have to go, and how strange rows of known classes look, by shots."""
    keys = jax.random.split(key, min(_CALIBRATION_TASKS, _TASKS_A_CLASS * len(classes)))
    ways, sizes = min(_CALIBRATION_WAYS, len(classes)), _sizes(data, classes)
    shots, masses, strange, units = _scores(data, classes, ways, sizes, theta, keys)
    knots = np.unique(shots)
    say(f"calibrated on {len(classes)} classes and {len(masses)} rows")
    each = [
        [
            [conformal_threshold(scores[shots == n], level, units[shots == n]) for level in LEVELS]
            for n in knots
        ]
        for scores in (masses, strange)
    ]
    return Calibration(np.log1p(knots), *(np.array(part) for part in each))


def _scores(
    data: PastClasses,
    classes: np.ndarray,
    ways: int,
    sizes: Sizes,
    theta: HeadTheta,
    keys: jax.Array,
) -> tuple[np.ndarray, ...]:
    """Of the query rows: shots, the mass before the right class, strangeness, and the class."""
    learner = named_head(ways=ways)
    weights = HeadTheta(*(jnp.float32(value) for value in theta))

    def one(data: PastClasses, key: jax.Array) -> tuple[jax.Array, ...]:
        sampler: Any = _sampler(data, classes, ways, sizes, clean=True)
        task, held = sampler.with_classes(key)
        w = learner.adapt(weights, task.support, description=task.description)
        z = learner.predict(weights, w, task.query.x)
        rows = task.support.mask.sum() / ways
        known = (task.query.mask > 0) & ~is_absent(z).all(axis=1)
        return jnp.full(known.shape, rows), z, task.query.y, known, held

    found = jax.jit(
        lambda data, keys: jax.lax.map(lambda key: one(data, key), keys, batch_size=20)
    )(data, keys)
    shots, z, y, known, held = map(np.asarray, found)
    which, rows = np.nonzero(known)
    z, y = z[which, rows], y[which, rows]
    units = held[which, y]
    return np.round(shots[which, rows]), mass_before(z)[np.arange(len(y)), y], strangeness(z), units
