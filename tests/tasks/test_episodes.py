"""Episodes and batches of images that say which image they are, so that every task can be read."""

import functools
import re
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import Examples, Task, learners, losses, meta_objective, networks
from jaxmeta.datasets import ImageClasses
from jaxmeta.tasks import class_batches, episodes

CLASSES, CAPACITY, SIDE = 9, 7, 4
COUNTS = np.array([7, 4, 5, 6, 7, 4, 7, 5, 6], np.int32)
GROUPS = np.array([1, 1, 1, 0, 1, 1, 0, 1, 1], np.int32)  # two classes and seven
KEYS = jax.random.split(jax.random.key(0), 300)
VARIABLE = {"ways": (2, 5), "shots": (1, 3), "queries": 1}
ROTATIONS = {"rotations": True, "reflections": False}
SYMMETRIES = {  # the orientations that each choice of symmetries counts as classes
    "none": ({}, [0]),
    "rotations": (ROTATIONS, [0, 1, 2, 3]),
    "reflections": ({"rotations": False, "reflections": True}, [0, 4]),
    "both": ({"rotations": True, "reflections": True}, list(range(8))),
}
TURNED = VARIABLE | {"ways": (2, 3), "within_group": True} | ROTATIONS
BATCH = {"num_keys": 40, "batch_size": 32}


def make_data():
    """Class and instance are two pixels of each image, a corner of full ink says which way up."""
    images = np.random.default_rng(0).integers(0, 255, (CLASSES, CAPACITY, SIDE, SIDE))
    images[:, :, 0, 0] = 255
    images[:, :, 1, 1] = np.arange(CLASSES)[:, None]
    images[:, :, 1, 2] = np.arange(CAPACITY)
    images[np.arange(CAPACITY) >= COUNTS[:, None]] = 0
    names = tuple(f"class {k}" for k in range(CLASSES))
    return ImageClasses(images.astype(np.uint8), COUNTS, GROUPS, ("small", "large"), names)


DATA = make_data()
WHICH = {
    np.rot90(DATA.images[k, m, :, :: -1 if r > 3 else 1], r).tobytes(): (k, m, r)
    for k, m, r in product(range(CLASSES), range(CAPACITY), range(8))
    if m < COUNTS[k]
}


def decode(x):
    """`(class, instance, orientation)` of each of `x [..., H, W, 1]`: int `[..., 3]`."""
    flat = np.rint(np.asarray(x) * 255).astype(np.uint8).reshape(-1, SIDE, SIDE)
    # A padding instance, or an image changed by a single grey level, is a KeyError here.
    rows = [WHICH[image.tobytes()] for image in flat]
    return np.array(rows).reshape(*np.shape(x)[:-3], 3)


@functools.cache
def draw(build, num_keys=300, **options):
    """The tasks of many keys at once; each kind is compiled once for all tests."""
    return jax.device_get(jax.jit(jax.vmap(build(DATA, **options)))(KEYS[:num_keys]))


def assert_same(got, want, atol=0.0):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize("symmetries", SYMMETRIES)
def test_support_and_query_are_distinct_images_of_their_classes(symmetries):
    options, orientations = SYMMETRIES[symmetries]
    tasks = draw(episodes, ways=4, shots=2, queries=2, **options)
    ways = np.repeat(np.arange(4), 2)
    for part in (tasks.support, tasks.query):  # balanced: as many rows of each class
        assert np.all(part.y == ways) and np.all(part.mask == 1)
    seen = np.concatenate([decode(tasks.support.x), decode(tasks.query.x)], axis=1)
    repeats = set()
    for rows in seen:
        assert len({tuple(row) for row in rows}) == 16  # no image twice: disjoint
        kinds = [{(k, r) for k, _, r in rows[np.tile(ways, 2) == way]} for way in range(4)]
        assert [len(kind) for kind in kinds] == [1] * 4 and len(set.union(*kinds)) == 4
        repeats.add(4 - len({k for kind in kinds for k, _ in kind}))
    assert (repeats > {0}) == (len(orientations) > 1)  # a class in two turns is two classes
    reach = COUNTS.sum() * len(orientations)
    assert len({tuple(row) for row in seen.reshape(-1, 3)}) == reach
    assert sorted(set(seen[..., 2].ravel().tolist())) == orientations
    shares = np.bincount(seen[:, :8:2, 0].ravel()) / (4 * len(KEYS))
    np.testing.assert_allclose(shares, 1 / CLASSES, atol=4 * (CLASSES * 4 * len(KEYS)) ** -0.5)


@pytest.mark.parametrize("rotations", [False, True])
def test_within_group_draws_groups_in_proportion_to_classes(rotations):
    task = draw(episodes, ways=2, queries=1, within_group=True, rotations=rotations)
    seen = decode(task.support.x)
    assert np.all((seen[:, 0] != seen[:, 1])[:, [0, 2]].any(1))  # another class, or turn
    groups = GROUPS[seen[..., 0]]
    np.testing.assert_array_equal(groups[:, 0], groups[:, 1])
    assert abs(groups[:, 0].mean() - 7 / 9) < 3 * (7 / 9 * 2 / 9 / len(KEYS)) ** 0.5


def test_every_size_of_the_ranges_occurs_and_the_rest_is_padding():
    sizes = set()
    tasks = draw(episodes, **VARIABLE)
    for row in range(len(KEYS)):
        support, query = jax.tree.map(lambda leaf: leaf[row], (tasks.support, tasks.query))  # noqa: B023
        ways = int(query.mask.sum())
        shots = int(support.mask.sum()) // ways
        way = np.repeat(np.arange(5), 3)
        real = (way < ways) & (np.tile(np.arange(3), 5) < shots)
        np.testing.assert_array_equal(support.mask, real)
        np.testing.assert_array_equal(support.y, np.where(real, way, -1))
        np.testing.assert_array_equal(query.y, np.where(np.arange(5) < ways, np.arange(5), -1))
        np.testing.assert_array_equal(query.mask, query.y >= 0)
        assert not support.x[~real].any() and not query.x[ways:].any()
        asked = np.repeat(decode(query.x[:ways])[:, 0], shots)
        np.testing.assert_array_equal(decode(support.x[real])[:, 0], asked)
        sizes.add((ways, shots))
    assert sizes == {(ways, shots) for ways in (2, 3, 4, 5) for shots in (1, 2, 3)}


def test_one_compilation_serves_all_sizes(count_traces):
    sampler, traces = count_traces(episodes(DATA, **VARIABLE))
    assert len({int(sampler(key).query.mask.sum()) for key in KEYS[:30]}) == 4
    assert len(traces) == 1


@pytest.mark.parametrize("family", [learners.prototypes, learners.matching])
def test_padding_does_not_change_the_loss(family):
    tasks = draw(episodes, **VARIABLE)
    task = jax.tree.map(lambda leaf: leaf[tasks.support.mask.sum(1).argmin()], tasks)
    bare = Task(*(Examples(*(leaf[part.mask > 0] for leaf in part)) for part in task[:2]))
    assert len(bare.support.y) == len(bare.query.y) == 2
    network = networks.mlp([8, 6])
    theta = family(network, ways=5).init(jax.random.key(1), task)

    def loss_and_gradient(ways, task):
        loss_fn = meta_objective(family(network, ways=ways), losses.cross_entropy)
        return jax.jit(jax.value_and_grad(lambda theta: loss_fn(theta, task, None)[0]))(theta)

    got, want = loss_and_gradient(5, task), loss_and_gradient(2, bare)
    assert want[0] > 0.01
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, want)


@pytest.mark.parametrize(("build", "options"), [(episodes, TURNED), (class_batches, BATCH)])
def test_jit_and_vmap_give_what_the_plain_function_gives(build, options):
    sampler = build(DATA, **{name: options[name] for name in options.keys() - {"num_keys"}})
    together, loop = draw(build, **options), [sampler(key) for key in KEYS[:4]]
    for row, alone in enumerate(loop):
        assert_same(jax.tree.map(lambda leaf: leaf[row], together), alone, atol=1e-5)  # noqa: B023
    assert_same(sampler(KEYS[0]), loop[0])
    assert not np.array_equal(loop[0].query.x, loop[1].query.x)


@pytest.mark.parametrize("build", [episodes, class_batches])
def test_images_stay_uint8_and_only_what_is_drawn_becomes_float(build):
    images, counts, groups = (np.concatenate([leaf] * 30) for leaf in DATA[:3])
    data = ImageClasses(images, counts, groups, DATA.group_names, DATA.class_names * 30)
    sampler = build(data, **({"ways": 2, "queries": 1} if build is episodes else {"batch_size": 8}))
    program = jax.jit(sampler).lower(KEYS[0])
    assert f"tensor<{'x'.join(map(str, images.shape))}xui8>" in program.as_text()
    floats = re.findall(r"tensor<([\dx]+)xf(?:16|32|64)>", program.as_text())
    assert 0 < max(np.prod([*map(int, size.split("x"))]) for size in floats) < images.size / 4
    x = program.compile()(KEYS[0]).query.x
    assert x.dtype == jnp.float32 and x.min() >= 0 and x.max() == 1  # the marked corner is 255


@pytest.mark.parametrize("symmetries", SYMMETRIES)
def test_batches_label_class_and_orientation(symmetries):
    options, orientations = SYMMETRIES[symmetries]
    batches = draw(class_batches, **BATCH, **options)
    seen = decode(batches.query.x)
    which = np.searchsorted(orientations, seen[..., 2])
    np.testing.assert_array_equal(batches.query.y, which * CLASSES + seen[..., 0])
    assert set(batches.query.y.ravel().tolist()) == set(range(len(orientations) * CLASSES))
    assert len({(k, m) for k, m, _ in seen.reshape(-1, 3)}) == COUNTS.sum()
    np.testing.assert_array_equal(batches.query.mask, np.ones((40, 32)))
    assert_same(batches.support, batches.query)


REFUSED = [
    ({"ways": 10}, "10 ways, but the data hold 9 classes"),
    ({"ways": 37, "rotations": True}, "37 ways, .* 36 classes"),
    ({"ways": (2, 4), "within_group": True}, "hold 2 classes in the smallest group"),
    ({"shots": 3, "queries": 2}, "= 5 images of each class, .* holds 4"),
    ({"ways": 0}, "ways must be 1 or more"),
    ({"shots": (0, 2)}, "shots must be 1 or more"),
    ({"queries": 0}, "queries must be 1 or more, got 0"),
    ({"ways": (5, 2)}, r"ways must be .* got \(5, 2\)"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_what_the_data_cannot_supply_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        episodes(DATA, **({"ways": 2, "queries": 1} | options))


@pytest.mark.parametrize("images", [DATA.images / 255, DATA.images[..., None], DATA.images[0]])
def test_images_of_another_type_or_rank_are_refused(images):
    for build in (class_batches, lambda data: episodes(data, ways=2, queries=1)):
        with pytest.raises(ValueError, match=r"uint8 images \[K, M, H, W\]"):
            build(DATA._replace(images=images))
    with pytest.raises(ValueError, match="batch_size must be 1 or more, got 0"):
        class_batches(DATA, batch_size=0)
