"""Learners that remember a fixed number of rows: what happens when there is no place left."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import learners
from tests.learners.test_extend import BUFFERED, drawn, first_rows, joined, rows
from tests.zoo import NET, in_context

CAPACITY = 7


@pytest.mark.parametrize("name", BUFFERED)
def test_a_buffer_predicts_as_no_buffer(name):
    free, theta, _, (first, _, _) = drawn(name, BUFFERED[name]())
    learner = BUFFERED[name](capacity=CAPACITY)
    x = rows(9, 5).x
    got, want = (each.predict(theta, each.adapt(theta, first), x) for each in (learner, free))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", BUFFERED)
def test_the_oldest_rows_are_forgotten(name):
    learner = BUFFERED[name](capacity=CAPACITY, when_full="forget")
    learner, theta, _, parts = drawn(name, learner)
    everything, x = joined(*parts), rows(9, 5).x
    real = np.flatnonzero(everything.mask)[-CAPACITY:]
    last = jax.tree.map(lambda leaf: leaf[real], everything)
    want = learner.predict(theta, learner.adapt(theta, last), x)
    w = learner.adapt(theta, parts[0])
    for more in parts[1:]:
        w = jax.jit(learner.extend)(theta, w, more)
    for w_with_all in (w, learner.adapt(theta, everything)):
        z = learner.predict(theta, w_with_all, x)
        np.testing.assert_allclose(z, want, rtol=1e-5, atol=1e-6)
    at_once = learner.extend(theta, learner.adapt(theta, first_rows(everything, 2)), everything)
    np.testing.assert_allclose(learner.predict(theta, at_once, x), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", BUFFERED)
def test_a_row_too_many_is_refused_aloud_or_as_nan(name):
    learner = BUFFERED[name](capacity=CAPACITY)
    learner, theta, _, (first, more, _) = drawn(name, learner)
    x, extend = rows(9, 5).x, jax.jit(learner.extend)
    w = learner.adapt(theta, first)
    full = learner.extend(theta, w, first_rows(more, 2))
    assert jnp.isfinite(learner.predict(theta, full, x)).all()
    padding = first_rows(more, 1, 5)
    assert jnp.isfinite(learner.predict(theta, extend(theta, full, padding), x)).all()
    with pytest.raises(ValueError, match="capacity of 7 rows, and this would make it 10"):
        learner.extend(theta, w, more)
    with pytest.raises(ValueError, match="capacity of 7 rows, and this would make it 10"):
        learner.adapt(theta, joined(first, more))
    spoilt = extend(theta, w, more)
    for lost in (
        spoilt,
        extend(theta, spoilt, padding),
        jax.jit(learner.adapt)(theta, joined(first, more)),
    ):
        assert jnp.isnan(learner.predict(theta, lost, x)).all()


@pytest.mark.parametrize("name", BUFFERED)
def test_a_history_may_begin_with_no_row(name):
    learner, theta, _, (first, _, _) = drawn(name, BUFFERED[name](capacity=CAPACITY))
    nothing = learner.adapt(theta, first._replace(mask=jnp.zeros_like(first.mask)))
    x = rows(9, 5).x
    assert jnp.isfinite(learner.predict(theta, nothing, x)).all()
    w, want = learner.extend(theta, nothing, first), learner.adapt(theta, first)
    np.testing.assert_array_equal(*(learner.predict(theta, each, x) for each in (w, want)))


def test_what_a_buffer_needs_is_said():
    with pytest.raises(ValueError, match="no capacity"):
        learners.matching(NET, ways=3, full_context=True, capacity=5)
    with pytest.raises(ValueError, match="when_full='queue'"):
        learners.nearest_neighbour(ways=3, capacity=5, when_full="queue")
    with pytest.raises(ValueError, match="capacity must be 1 or more"):
        in_context(ways=3, capacity=0)
    with pytest.raises(ValueError, match="cannot be extended"):
        learners.hypernet(NET, out_size=3, source="description", extendable=True)
    learner, theta, _, (first, _, _) = drawn("matching", learners.matching(NET, capacity=9))
    with pytest.raises(ValueError, match="give it ways"):
        learner.adapt(theta, first)
