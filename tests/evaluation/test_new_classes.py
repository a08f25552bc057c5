"""Intervals over classes and groups: they cover where those over tasks do not, or refuse."""

import jax
import numpy as np
import pytest
from scipy import stats

from jaxmeta import evaluate, learners, networks, paired_difference, tasks
from jaxmeta.datasets import ImageClasses
from jaxmeta.evaluation import interval95, interval_over_classes, interval_over_groups

WAYS, CLASSES, TASKS = 5, 25, 1000


def draw(rng, effects):
    """Accuracies of tasks of some classes, each of which makes its tasks harder or easier."""
    classes = np.stack([rng.choice(len(effects), WAYS, replace=False) for _ in range(TASKS)])
    noise = 0.02 * rng.normal(size=TASKS)
    return 0.8 + effects[classes].mean(axis=1) + noise, classes


def covered(half_width, num=100):
    """Of repetitions with new classes, in how many the mean over all classes is covered."""
    return sum(half_width(np.random.default_rng(seed)) for seed in range(num))


def test_it_covers_the_mean_over_classes_where_tasks_do_not():
    def over(interval):
        def covers(rng):
            values, classes = draw(rng, 0.1 * rng.normal(size=CLASSES))
            return abs(values.mean() - 0.8) <= interval(values, classes)

        return covers

    assert 93 <= covered(over(interval_over_classes)) <= 99
    assert covered(over(lambda values, classes: interval95(values))) < 60


def test_of_a_finite_pool_the_interval_is_smaller():
    """The mean over a pool of 50, of which 25 were seen."""

    def covers(rng):
        pool = 0.1 * rng.normal(size=50)
        seen = rng.choice(50, CLASSES, replace=False)
        values, classes = draw(rng, pool[seen])
        width = interval_over_classes(values, seen[classes], 50)
        assert width < interval_over_classes(values, classes)
        return abs(values.mean() - 0.8 - pool.mean()) <= width

    assert 93 <= covered(covers) <= 99


def test_a_pool_that_was_seen_whole_leaves_the_tasks():
    values, classes = draw(np.random.default_rng(0), np.linspace(-0.1, 0.1, CLASSES))
    over_tasks = interval95(values) / 1.959963984540054 * stats.t.ppf(0.975, CLASSES - 1)
    assert interval_over_classes(values, classes, CLASSES) == pytest.approx(over_tasks)


def test_it_is_the_projection_that_numpy_computes():
    rng = np.random.default_rng(1)
    values, classes = draw(rng, 0.1 * rng.normal(size=CLASSES))
    member = np.array([[c in task for c in range(CLASSES)] for task in classes], float)
    # With the last class left out, the effects of the others against it.
    design = np.c_[np.ones(TASKS), member[:, :-1]]
    solved = np.linalg.solve(design.T @ design, design.T @ values)
    effects = np.r_[solved[1:], 0.0]
    noise = ((values - design @ solved) ** 2).sum() / (TASKS - CLASSES)
    covariance = np.zeros((CLASSES, CLASSES))
    covariance[:-1, :-1] = noise * np.linalg.inv(design.T @ design)[1:, 1:]
    centring = np.eye(CLASSES) - 1 / CLASSES
    of_noise = np.trace(centring @ covariance @ centring) / CLASSES
    variance = WAYS**2 * (effects.var(ddof=1) - of_noise) / CLASSES
    want = np.sqrt(variance + values.var(ddof=1) / TASKS) * stats.t.ppf(0.975, CLASSES - 1)
    assert interval_over_classes(values, classes) == pytest.approx(want, rel=1e-6)


def test_names_and_order_of_classes_do_not_matter():
    values, classes = draw(np.random.default_rng(0), np.linspace(-0.1, 0.1, CLASSES))
    want = interval_over_classes(values, classes)
    assert interval_over_classes(values, classes[:, ::-1] * 7 + 100) == pytest.approx(want)
    assert interval_over_classes(values, classes.astype(str)) == pytest.approx(want)


@pytest.mark.parametrize(
    ("num_tasks", "num_classes", "pool", "said"),
    [
        (200, 12, None, "hold 5 of 12 classes"),
        (50, 25, None, "50 tasks of 25 classes"),
        (200, 20, 19, "hold 20 classes, and num_classes is 19"),
    ],
)
def test_where_it_does_not_hold_it_says_why(num_tasks, num_classes, pool, said):
    rng = np.random.default_rng(0)
    classes = np.stack([rng.choice(num_classes, WAYS, replace=False) for _ in range(num_tasks)])
    with pytest.raises(ValueError, match=said):
        interval_over_classes(rng.random(num_tasks), classes, pool)


def test_what_is_no_table_of_classes_is_refused():
    values, classes = draw(np.random.default_rng(0), np.zeros(CLASSES))
    with pytest.raises(ValueError, match="the same tasks"):
        interval_over_classes(values[:-1], classes)
    with pytest.raises(ValueError, match="the group of each"):
        interval_over_groups(values, values[:-1])
    with pytest.raises(ValueError, match="two or more, got 1"):
        interval_over_groups(values, np.zeros(TASKS))


def test_the_jackknife_covers_the_mean_over_groups():
    def over(interval):
        def covers(rng):
            groups = rng.integers(0, 12, 600)
            values = 0.7 + 0.05 * rng.normal(size=12)[groups] + 0.05 * rng.normal(size=600)
            return abs(values.mean() - 0.7) <= interval(values, groups)

        return covers

    assert 93 <= covered(over(interval_over_groups)) <= 99
    assert covered(over(lambda values, groups: interval95(values))) < 60


def test_with_equal_groups_the_jackknife_is_over_their_means():
    values = np.random.default_rng(0).normal(size=(6, 50))
    groups = np.repeat(np.arange(6), 50)
    means = values.mean(axis=1)
    want = means.std(ddof=1) / np.sqrt(6) * stats.t.ppf(0.975, 5)
    assert interval_over_groups(values.ravel(), groups) == pytest.approx(want)


KEY = jax.random.key(0)
LEARNER = learners.prototypes(networks.identity(), ways=3)
THETA = {"network": (), "log_scale": np.float32(1.0)}


def images(num_classes=12):
    """Noise, of which some classes have more; two groups."""
    rng = np.random.default_rng(0)
    spread = np.linspace(1, 60, num_classes)[:, None, None, None]
    mean = rng.integers(60, 190, (num_classes, 1, 3, 3))
    pixels = np.clip(mean + spread * rng.normal(size=(num_classes, 6, 3, 3)), 0, 255)
    names = tuple(map(str, range(num_classes)))
    counts = np.full(num_classes, 6, np.int32)
    groups = (np.arange(num_classes) % 3).astype(np.int32)
    return ImageClasses(pixels.astype(np.uint8), counts, groups, ("a", "b", "c"), names)


def test_a_sampler_says_which_classes_its_tasks_hold():
    data = images()
    for options in ({}, {"rotations": True}, {"within_group": True}):
        sampler = tasks.episodes(data, ways=3, shots=5, queries=1, **options)
        for key in jax.random.split(KEY, 5):
            classes, task = np.asarray(sampler.classes(key)), sampler(key)
            for label, known in enumerate(classes):
                rows = np.asarray(task.support.x)[np.asarray(task.support.y) == label, ..., 0]
                seen = {np.sort(np.rint(255 * row), axis=None).tobytes() for row in rows}
                all_rows = np.sort(data.images[known].reshape(6, -1).astype(np.float32), axis=1)
                assert seen <= {row.tobytes() for row in all_rows}
            assert int(sampler.group(key)) == data.groups[classes[0]]
            if "within_group" in options:
                assert len(set(data.groups[classes])) == 1
    assert not hasattr(tasks.episodes(data, ways=(2, 3)), "classes")


def test_an_evaluation_has_both_intervals_as_has_a_difference():
    sampler = tasks.episodes(images(), ways=3, shots=1, queries=2)
    plain = evaluate(LEARNER, THETA, sampler, key=KEY, num_tasks=200)
    found = evaluate(LEARNER, THETA, sampler, key=KEY, num_tasks=200, over="classes")
    np.testing.assert_array_equal(found.per_task, plain.per_task)
    assert np.isnan(plain.ci95_new) and plain.held is None
    assert found.ci95 == plain.ci95 and found.held.shape == (200, 3)
    assert found.ci95_new == interval_over_classes(found.per_task, found.held)
    assert found.ci95_new > 2 * found.ci95
    whole = evaluate(
        LEARNER, THETA, sampler, key=KEY, num_tasks=200, over="classes", num_classes=12
    )
    assert whole.ci95_new < found.ci95_new
    cosine = learners.prototypes(networks.identity(), ways=3, distance="cosine")
    other = evaluate(cosine, THETA, sampler, key=KEY, num_tasks=200)
    mean, over_classes = paired_difference(found, other, over="classes")
    assert (mean, over_classes) != paired_difference(found, other)
    assert over_classes == interval_over_classes(found.per_task - other.per_task, found.held)
    with pytest.raises(ValueError, match="evaluated over tasks"):
        paired_difference(other, found, over="classes")


def test_groups_are_those_of_one_alphabet_each():
    sampler = tasks.episodes(images(), ways=2, shots=1, queries=2, within_group=True)
    found = evaluate(LEARNER, THETA, sampler, key=KEY, num_tasks=60, over="groups")
    assert found.ci95_new == interval_over_groups(found.per_task, found.held)
    assert set(found.held) == {0, 1, 2}


def refuse_to_adapt(*_, **__):
    raise AssertionError("an interval that cannot be had is refused before a task is judged")


def test_what_a_sampler_does_not_say_is_refused():
    some = tasks.episodes(images(), ways=(2, 3), shots=1, queries=2)
    for drawn in (some, jax.vmap(some)(jax.random.split(KEY, 4))):
        key = KEY if callable(drawn) else None
        with pytest.raises(ValueError, match="needs a sampler that says"):
            evaluate(LEARNER, THETA, drawn, key=key, over="classes")
    with pytest.raises(ValueError, match="got 'alphabets'"):
        evaluate(LEARNER, THETA, some, key=KEY, over="alphabets")


def test_what_does_not_hold_is_refused_before_tasks_are_judged():
    untouched = LEARNER._replace(adapt=refuse_to_adapt)
    few = tasks.episodes(images(6), ways=3, shots=1, queries=2)
    with pytest.raises(ValueError, match="hold 3 of 6 classes"):
        evaluate(untouched, THETA, few, key=KEY, num_tasks=100, over="classes")
    one = tasks.episodes(images(), ways=3, shots=1, queries=2, within_group=True)
    with pytest.raises(ValueError, match="two or more, got 1"):
        evaluate(untouched, THETA, one, key=KEY, num_tasks=1, over="groups")
