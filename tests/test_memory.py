"""What evaluating leaves behind, and what prediction takes beside its arguments and results."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import Examples, Task, datasets, evaluate, learners, networks, tasks

KEY = jax.random.key(0)


def image_sampler(seed, ways):
    images = np.random.default_rng(seed).integers(0, 256, (8, 4, 16, 16)).astype(np.uint8)
    names = tuple(map(str, range(8)))
    data = datasets.ImageClasses(
        images, np.full(8, 4, np.int32), np.zeros(8, np.int32), ("g",), names
    )
    return tasks.episodes(data, ways=ways, queries=1)


def live_bytes():
    gc.collect()
    return sum(array.nbytes for array in jax.live_arrays())


def test_evaluating_new_learners_leaves_nothing_behind():
    network, theta, seen, watched = networks.identity(), None, [], []
    for i in range(8):
        ways = 2 + i % 3
        sampler, learner = image_sampler(i, ways), learners.prototypes(network, ways=ways)
        theta = theta or learner.init(KEY, sampler(KEY))
        evaluate(learner, theta, sampler, key=KEY, num_tasks=2)
        watched.append(weakref.ref(sampler))
        del sampler, learner
        seen.append(live_bytes())
    assert len(set(seen[1:])) == 1
    assert not any(ref() for ref in watched)


def test_evaluating_twice_compiles_once():
    sampler, learner = image_sampler(0, 3), learners.prototypes(networks.identity(), ways=3)
    theta, traces = learner.init(KEY, sampler(KEY)), []

    def counted(key):
        traces.append(1)
        return sampler(key)

    results = [evaluate(learner, theta, counted, key=KEY, num_tasks=3) for _ in range(3)]
    assert len(traces) == 1 and results[0].mean == results[2].mean
    moved = jax.tree.map(lambda leaf: leaf + 1.0, theta)
    evaluate(learner, moved, counted, key=jax.random.key(1), num_tasks=3)
    assert len(traces) == 1
    evaluate(learner, theta, counted, key=KEY, num_tasks=4)
    assert len(traces) == 2


class Sampler:
    """Its method is another object at each access."""

    def __init__(self):
        self.traces = 0

    def draw(self, key):
        self.traces += 1
        x = jax.random.normal(key, (3, 2))
        return Task(*[Examples(x, jnp.arange(3), jnp.ones(3))] * 2)


def test_a_bound_method_as_sampler_is_compiled_once_and_let_go():
    mine, learner = Sampler(), learners.nearest_neighbour()
    for _ in range(2):
        assert evaluate(learner, {}, mine.draw, key=KEY, num_tasks=2).mean == 1.0
    assert mine.traces == 1
    gone = weakref.ref(mine)
    del mine
    gc.collect()
    assert gone() is None


BUILD = {
    "matching": lambda: learners.matching(networks.identity(), ways=1000),
    "sparsemax": lambda: learners.matching(networks.identity(), attention="sparsemax", ways=1000),
    "nearest neighbour": lambda: learners.nearest_neighbour(ways=1000),
    "prototypes": lambda: learners.prototypes(networks.identity(), ways=1000),
    "cosine": lambda: learners.prototypes(networks.identity(), distance="cosine", ways=1000),
    "transfer": lambda: learners.transfer(networks.identity(), num_classes=2, ways=1000),
    "ridge": lambda: learners.ridge(networks.identity(), ways=1000),
}


@pytest.mark.parametrize("name", BUILD)
def test_a_thousand_ways_take_some_numbers_a_pair_of_rows(name):
    rows = Examples(jax.random.normal(KEY, (1000, 16)), jnp.arange(1000), jnp.ones(1000))
    learner = BUILD[name]()
    theta = learner.init(KEY, Task(rows, rows))

    def judge(x):
        return learner.predict(theta, learner.adapt(theta, rows), x)

    program = jax.jit(judge).lower(rows.x).compile()
    assert program.memory_analysis().temp_size_in_bytes <= 20 * 2**20
    if name != "ridge":  # sixteen numbers are too few for a thousand columns
        np.testing.assert_array_equal(judge(rows.x).argmax(axis=1), np.arange(1000))
