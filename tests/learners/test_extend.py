"""New rows join what `w` knows, as if `adapt` had read all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import Examples, Task, learners, networks, sparsity, transforms
from tests.zoo import LEARNERS, NET, draw_sinusoid, neural_process

WAYS = 3
EXTENDABLE = {name: learner for name, learner in LEARNERS.items() if learner.extend is not None} | {
    "recurrent": learners.recurrent(NET, ways=WAYS, size=5)
}


def rows(seed, count, *, regression=False):
    """Rows of three classes, the last of which are padding; or of a line."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 4)).astype(np.float32)
    y = rng.normal(size=(count, 1)).astype(np.float32) if regression else rng.integers(0, 3, count)
    mask = (np.arange(count) < count - 1).astype(np.float32)
    return Examples(jnp.asarray(x), jnp.asarray(y), jnp.asarray(mask))


def joined(*parts):
    return Examples(*(jnp.concatenate(leaves) for leaves in zip(*parts, strict=True)))


def drawn(name):
    regression = "regression" in name
    parts = [rows(seed, 6, regression=regression) for seed in range(3)]
    learner = EXTENDABLE[name]
    theta = learner.init(jax.random.key(0), Task(parts[0], parts[0]))
    return learner, theta, parts


def test_who_can_be_extended_is_known():
    assert set(EXTENDABLE) == {
        "prototypes euclidean",
        "prototypes cosine",
        "transfer centroid",
        "neural process regression",
        "recurrent",
    }
    sparse = transforms.sparsify(EXTENDABLE["prototypes cosine"], sparsity.top_k(0.5))
    assert sparse.extend is None, "a sparse w has lost what further rows would join"
    assert neural_process(latent=3).extend is None


@pytest.mark.parametrize("name", EXTENDABLE)
def test_extending_is_adapting_to_all_rows(name):
    learner, theta, parts = drawn(name)
    whole = learner.adapt(theta, joined(*parts))
    w = learner.adapt(theta, parts[0])
    for more in parts[1:]:
        w = jax.jit(learner.extend)(theta, w, more)
    assert jax.tree.structure(w) == jax.tree.structure(whole)
    for got, want in zip(jax.tree.leaves(w), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)
    x = rows(9, 5).x
    got, want = (learner.predict(theta, each, x) for each in (w, whole))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", EXTENDABLE)
def test_one_row_at_a_time_and_nothing_is_traced_again(name):
    learner, theta, parts = drawn(name)
    traced = []

    @jax.jit
    def extend(theta, w, examples):
        traced.append(None)
        return learner.extend(theta, w, examples)

    everything = joined(*parts)
    w = learner.adapt(theta, jax.tree.map(lambda leaf: leaf[:1], everything))
    for n in range(1, len(everything.y)):
        w = extend(theta, w, jax.tree.map(lambda leaf, n=n: leaf[n : n + 1], everything))
    assert len(traced) == 1
    whole = learner.adapt(theta, everything)
    for got, want in zip(jax.tree.leaves(w), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", EXTENDABLE)
def test_padding_and_vmap_change_nothing(name):
    learner, theta, (first, more, _) = drawn(name)
    w = learner.adapt(theta, first)
    padded = more._replace(x=more.x.at[-1].set(jnp.nan))
    one = learner.extend(theta, w, more)
    for got, want in zip(
        jax.tree.leaves(learner.extend(theta, w, padded)), jax.tree.leaves(one), strict=True
    ):
        np.testing.assert_array_equal(got, want)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), more)
    both = jax.vmap(lambda rows: learner.extend(theta, w, rows))(stacked)
    for got, want in zip(jax.tree.leaves(both), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(got[1], want, rtol=1e-5, atol=1e-6)


def test_a_class_can_come_later():
    learner, theta, (first, more, _) = drawn("prototypes euclidean")
    first = first._replace(y=first.y % 2)
    w = learner.adapt(theta, first)
    assert not bool(w.present[2])
    more = more._replace(y=jnp.full_like(more.y, 2))
    w = learner.extend(theta, w, more)
    assert bool(w.present.all())
    whole = learner.adapt(theta, joined(first, more))
    np.testing.assert_allclose(w.means, whole.means, rtol=1e-5, atol=1e-6)


def test_a_long_history_loses_no_digits():
    """Ten thousand rows, one at a time, in single precision."""
    learner = learners.prototypes(networks.identity(), ways=2)
    rng = np.random.default_rng(0)
    x = (100.0 + rng.normal(size=(10_000, 3))).astype(np.float32)
    y = rng.integers(0, 2, len(x))
    everything = Examples(jnp.asarray(x), jnp.asarray(y), jnp.ones(len(x)))
    theta = learner.init(jax.random.key(0), Task(everything, everything))
    start = learner.adapt(theta, jax.tree.map(lambda leaf: leaf[:2], everything))

    def step(w, row):
        return learner.extend(theta, w, jax.tree.map(lambda leaf: leaf[None], row)), None

    w, _ = jax.lax.scan(step, start, jax.tree.map(lambda leaf: leaf[2:], everything))
    want = np.stack([x[y == c].astype(np.float64).mean(axis=0) for c in range(2)])
    np.testing.assert_allclose(w.means, want, rtol=1e-6)
    np.testing.assert_array_equal(w.counts, np.bincount(y))


def test_the_recurrent_learner_takes_rows_in_turn():
    learner, theta, (first, more, _) = drawn("recurrent")
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
