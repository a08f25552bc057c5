"""New rows join what `w` knows, as if `adapt` had read all of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import Examples, Task, learners, networks, sparsity, transforms
from tests.zoo import LEARNERS, NET, draw_sinusoid, hypernet, in_context, neural_process

WAYS = 3
ALWAYS = {name: learner for name, learner in LEARNERS.items() if learner.extend is not None} | {
    "recurrent": learners.recurrent(NET, ways=WAYS, size=5)
}
IF_ASKED = {
    "ridge": learners.ridge(NET, ways=WAYS, extendable=True),
    "ridge regression": learners.ridge(NET, intercept=False, extendable=True),
    "hypernet": hypernet(out_size=WAYS, extendable=True),
    "hypernet both": hypernet(out_size=WAYS, source="both", extendable=True),
    "hypernet regression": hypernet(out_size=1, extendable=True),
}
BUFFERED = {
    "matching": functools.partial(learners.matching, NET, ways=WAYS),
    "matching sparsemax": functools.partial(
        learners.matching, NET, ways=WAYS, attention="sparsemax", scale=2.0
    ),
    "nearest neighbour": functools.partial(learners.nearest_neighbour, ways=WAYS),
    "in context": functools.partial(in_context, ways=WAYS),
    "in context regression": functools.partial(in_context, num_layers=1),
}
"""Those that remember rows, before it is said how many."""
EXTENDABLE = ALWAYS | IF_ASKED | {name: make(capacity=20) for name, make in BUFFERED.items()}
DESCRIPTION = jnp.array([0.5, -1.0])


def rows(seed, count, *, regression=False):
    """Rows of three classes, the last of which are padding; or of a line."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 4)).astype(np.float32)
    y = rng.normal(size=(count, 1)).astype(np.float32) if regression else rng.integers(0, 3, count)
    mask = (np.arange(count) < count - 1).astype(np.float32)
    return Examples(jnp.asarray(x), jnp.asarray(y), jnp.asarray(mask))


def joined(*parts):
    return Examples(*(jnp.concatenate(leaves) for leaves in zip(*parts, strict=True)))


def first_rows(rows, count, start=0):
    return jax.tree.map(lambda leaf: leaf[start : start + count], rows)


def drawn(name, learner=None):
    """A learner, its theta, a function that adapts, and three sets of rows."""
    parts = [rows(seed, 6, regression="regression" in name) for seed in range(3)]
    learner = EXTENDABLE[name] if learner is None else learner
    description = DESCRIPTION if "both" in name else None
    theta = learner.init(jax.random.key(0), Task(parts[0], parts[0], description))
    return learner, theta, functools.partial(learner.adapt, description=description), parts


def assert_alike(got, want, **tolerances):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(one, other, **tolerances)


def test_who_can_be_extended_is_known():
    assert set(ALWAYS) == {
        "prototypes euclidean",
        "prototypes cosine",
        "transfer centroid",
        "neural process regression",
        "recurrent",
    }
    for name, learner in EXTENDABLE.items():
        assert learner.extend is not None, name
    sparse = transforms.sparsify(EXTENDABLE["prototypes cosine"], sparsity.top_k(0.5))
    assert sparse.extend is None, "a sparse w has lost what further rows would join"
    assert neural_process(latent=3).extend is None
    assert [make().extend for make in BUFFERED.values()] == [None] * len(BUFFERED)


@pytest.mark.parametrize("name", EXTENDABLE)
def test_extending_is_adapting_to_all_rows(name):
    learner, theta, adapt, parts = drawn(name)
    whole = adapt(theta, joined(*parts))
    w = adapt(theta, parts[0])
    for more in parts[1:]:
        w = jax.jit(learner.extend)(theta, w, more)
    assert_alike(w, whole, rtol=2e-5, atol=2e-6)
    x = rows(9, 5).x
    got, want = (learner.predict(theta, each, x) for each in (w, whole))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", EXTENDABLE)
def test_one_row_at_a_time_and_nothing_is_traced_again(name):
    learner, theta, adapt, parts = drawn(name)
    traced = []

    @jax.jit
    def extend(theta, w, examples):
        traced.append(None)
        return learner.extend(theta, w, examples)

    everything = joined(*parts)
    w = adapt(theta, first_rows(everything, 1))
    for n in range(1, len(everything.y)):
        w = extend(theta, w, first_rows(everything, 1, n))
    assert len(traced) == 1
    assert_alike(w, adapt(theta, everything), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", EXTENDABLE)
def test_padding_and_vmap_change_nothing(name):
    learner, theta, adapt, (first, more, _) = drawn(name)
    w = adapt(theta, first)
    extend = jax.jit(learner.extend)
    one = extend(theta, w, more)
    padded = more._replace(x=more.x.at[-1].set(jnp.nan))
    assert_alike(extend(theta, w, padded), one, rtol=0)
    nothing = more._replace(mask=jnp.zeros_like(more.mask))
    assert_alike(extend(theta, w, nothing), w, rtol=1e-5, atol=1e-6)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), more)
    both = jax.jit(jax.vmap(lambda rows: learner.extend(theta, w, rows)))(stacked)
    second = jax.tree.map(lambda leaf: leaf[1], both)
    assert_alike(second, one, rtol=1e-5, atol=1e-6)


CLASSIFIERS = [name for name in EXTENDABLE if "regression" not in name and name != "recurrent"]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_class_can_come_later(name):
    learner, theta, adapt, (first, more, _) = drawn(name)
    first = first._replace(y=first.y % 2)
    more = more._replace(y=jnp.full_like(more.y, 2))
    w, x = adapt(theta, first), rows(9, 5).x
    absent = jnp.finfo(jnp.float32).min
    assert (learner.predict(theta, w, x)[:, 2] == absent).all()
    z = learner.predict(theta, learner.extend(theta, w, more), x)
    assert (z > absent).all()
    whole = learner.predict(theta, adapt(theta, joined(first, more)), x)
    np.testing.assert_allclose(z, whole, rtol=1e-4, atol=1e-5)


def row_by_row(learner, theta, everything):
    """`w` of a history that began with one row, to which the others came singly."""

    def step(w, row):
        return learner.extend(theta, w, jax.tree.map(lambda leaf: leaf[None], row)), None

    start = learner.adapt(theta, first_rows(everything, 1))
    return jax.lax.scan(step, start, first_rows(everything, len(everything.y) - 1, 1))[0]


def test_a_long_history_loses_no_digits():
    """Ten thousand rows, one at a time, in single precision."""
    learner = learners.prototypes(networks.identity(), ways=2)
    rng = np.random.default_rng(0)
    x = (100.0 + rng.normal(size=(10_000, 3))).astype(np.float32)
    y = rng.integers(0, 2, len(x))
    everything = Examples(jnp.asarray(x), jnp.asarray(y), jnp.ones(len(x)))
    theta = learner.init(jax.random.key(0), Task(everything, everything))
    w = row_by_row(learner, theta, everything)
    want = np.stack([x[y == c].astype(np.float64).mean(axis=0) for c in range(2)])
    np.testing.assert_allclose(w.means, want, rtol=1e-6)
    np.testing.assert_array_equal(w.counts, np.bincount(y))


def test_the_recurrent_learner_takes_rows_in_turn():
    learner, theta, _, (first, more, _) = drawn("recurrent")
    theta["out"]["kernel"] = jnp.ones_like(theta["out"]["kernel"])
    z = learner.predict(theta, learner.adapt(theta, first), more.x)
    turned = jax.tree.map(lambda leaf: leaf[:-1][::-1], first)
    other = learner.predict(theta, learner.adapt(theta, turned), more.x)
    assert float(jnp.abs(z - other).max()) > 1e-4, "the order counts"
    moved = first._replace(y=(first.y + 1) % WAYS)
    again = learner.predict(theta, learner.adapt(theta, moved), more.x)
    np.testing.assert_allclose(again, jnp.roll(z, 1, axis=1), rtol=1e-4, atol=1e-6)
    there = jnp.array([1.0, 0.0, 1.0])
    w = learner.adapt(theta, first, description=there)
    assert (learner.predict(theta, w, more.x)[:, 1] == jnp.finfo(jnp.float32).min).all()
    with pytest.raises(ValueError, match=r"which of 3 classes"):
        learner.adapt(theta, first, description=jnp.ones(2))


def test_targets_are_extended_where_the_mean_is_what_is_known():
    task = draw_sinusoid(0)
    learner = neural_process()
    theta = learner.init(jax.random.key(0), task)
    w = learner.extend(theta, learner.adapt(theta, task.support), task.query)
    whole = learner.adapt(theta, joined(task.support, task.query))
    np.testing.assert_allclose(w.summary, whole.summary, rtol=1e-5, atol=1e-6)
    assert int(w.count) == int(whole.count)


@pytest.mark.parametrize("regulariser", [1.0, 1e-3])
def test_ridge_is_solved_as_well_after_a_thousand_rows(regulariser):
    """In single precision, against the solution in double precision."""
    regression = rows(0, 1001, regression=True)
    task = Task(regression, regression)
    network = networks.mlp([16])
    learner = learners.ridge(network, regulariser=regulariser, extendable=True)
    theta = learner.init(jax.random.key(0), task)
    w = row_by_row(learner, theta, regression)
    features = np.asarray(network.apply(theta["network"], regression.x[:-1]), np.float64) / 4.0
    x = np.concatenate([features, np.ones((1000, 1))], axis=1)
    y = np.asarray(regression.y[:-1], np.float64)
    want = x @ np.linalg.solve(x.T @ x + regulariser * np.eye(17), x.T @ y)
    z = learner.predict(theta, w, regression.x[:-1])
    np.testing.assert_allclose(z, want, rtol=1e-4, atol=1e-4)
    whole = learners.ridge(network).adapt(theta, regression)
    assert sparsity.size(w) == sparsity.size(whole), "the matrix that it carries is no parameter"
