"""Heads that the inner loop starts from, and batch statistics of the network below them."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import learners, losses, meta_objective, networks
from tests.learners.adapting import KEY, NET, adapted, assert_trees_close


def test_a_shared_head_serves_any_ways_a_separate_one_its_own(task):
    shared = learners.maml(NET, num_steps=2, ways=3)
    theta = shared.init(KEY, task)
    many = learners.maml(NET, num_steps=2, ways=5)
    w, wide = adapted(shared, theta, task), adapted(many, theta, task)
    assert wide.head["kernel"].shape == (6, 5) and w.head["kernel"].shape == (6, 3)
    np.testing.assert_array_equal(wide.present, [True] * 3 + [False] * 2)
    separate = learners.maml(NET, num_steps=2, ways=3, head="separate")
    theta = separate.init(KEY, task)
    assert np.ptp(theta["head"]["kernel"], axis=1).max() > 0
    with pytest.raises(ValueError, match="made for 3 classes and is asked for 5"):
        learners.maml(NET, num_steps=2, ways=5, head="separate").adapt(theta, task.support)


@pytest.mark.parametrize("statistics", ["support", "query"])
def test_batch_statistics_are_the_support_sets_by_default(statistics, image_task, pad):
    """Inductive: another query changes nothing. Transductive: it does, and the name says so."""
    network = networks.conv4(3, norm="batch")
    learner = learners.maml(network, num_steps=2, ways=3, statistics=statistics)
    theta = learner.init(KEY, image_task)
    w = adapted(learner, theta, image_task)
    assert ("mean" in w.body[0]) == (statistics == "support")
    predict = jax.jit(learner.predict)
    z = predict(theta, w, image_task.query.x)
    other = predict(theta, w, image_task.query.x.at[1:].multiply(3.0))
    assert np.allclose(z[0], other[0], atol=1e-5) == (statistics == "support")
    padded = adapted(learner, theta, pad(image_task, 100.0))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        (padded.body, padded.head),
        (w.body, w.head),
    )


@pytest.mark.slow
def test_a_network_knows_the_statistics_of_the_real_rows(image_task):
    network = networks.residual(2, norm="batch")
    x, mask = image_task.support.x, jnp.array([1.0, 1, 0, 1, 1, 0])
    params = network.init(KEY, x)
    seen, known = network.with_statistics(params, x.at[2].set(50.0), mask)
    real = x[mask > 0]
    features = network.apply(params, real)  # normalised by the statistics of the real rows
    np.testing.assert_allclose(seen[mask > 0], features, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(network.apply(known, real), features, rtol=1e-4, atol=1e-4)
    stem = jax.lax.conv_general_dilated(
        real, params[0]["kernel"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(known[0]["mean"], stem.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(known[0]["variance"], stem.var((0, 1, 2)), rtol=1e-4, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, network.without_statistics(known), params)
    with pytest.raises(ValueError, match="'layer' or 'batch'"):
        networks.conv4(2, norm="group")


def prototype_start(task, ways=5):
    """`(learner, theta, w)` of a start from class means, on three classes of five."""
    start = learners.learned_init(NET, ways=ways, head="prototypes")
    theta = start.init(KEY, task)
    theta["head"] = {"log_scale": jnp.float32(0.3)}
    return start, theta, start.adapt(theta, task.support)


def test_a_head_of_prototypes_starts_as_distances_to_class_means(task, pad):
    """Against NumPy, but for the term that all classes share; and padding counts for nothing."""
    start, theta, w = prototype_start(task)
    features, queries = (
        np.asarray(NET.apply(theta["network"], part.x), np.float64)
        for part in (task.support, task.query)
    )
    y = np.asarray(task.support.y)
    means = np.stack([features[y == c].mean(axis=0) for c in range(3)])
    distances = np.square(queries[:, None] - means[None]).sum(axis=-1)
    want = -np.exp(0.3) * (distances - np.square(queries).sum(axis=-1, keepdims=True))
    z = start.predict(theta, w, task.query.x)
    np.testing.assert_allclose(z[:, :3], want, rtol=1e-4, atol=1e-5)
    assert (z[:, 3:] < -1e29).all(), "classes without rows cannot be chosen"
    padded = start.adapt(theta, pad(task, 100.0).support)
    assert_trees_close(padded, w)
    own = learners.prototypes(NET, ways=5)
    both = {"network": theta["network"], "log_scale": theta["head"]["log_scale"]}
    same = own.predict(both, own.adapt(both, task.support), task.query.x)
    assert_trees_close(jax.nn.softmax(z), jax.nn.softmax(same), rtol=1e-4)


def test_the_first_step_moves_the_body_if_columns_differ(task):
    """A shared column's first step is ANIL's: the body's gradient is zero where columns agree."""
    for head, moves in (("shared", False), ("separate", True), ("prototypes", True)):
        learner = learners.maml(NET, num_steps=1, rate=0.3, ways=3, head=head)
        theta = learner.init(KEY, task)
        w = adapted(learner, theta, task)
        moved = optax.tree.norm(optax.tree.sub(w.body, theta["network"]))
        # A gradient that sums to zero over the classes is zero up to rounding.
        assert (moved > 1e-3) == moves and (moves or moved < 1e-6), (head, moved)


def test_its_meta_gradient_is_that_of_finite_differences(task, x64):
    task = x64(task)
    learner = learners.maml(NET, num_steps=2, rate=0.3, ways=4, head="prototypes")
    theta = x64(learner.init(KEY, task))
    loss_fn = meta_objective(learner, losses.cross_entropy)
    flat, restore = jax.flatten_util.ravel_pytree(theta)
    loss = jax.jit(lambda flat: loss_fn(restore(flat), task, None)[0])
    direction = np.random.default_rng(0).normal(size=flat.shape)
    slope = (loss(flat + 1e-6 * direction) - loss(flat - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(flat) @ direction, slope, rtol=1e-6)


def test_prototypes_use_the_support_sets_batch_statistics(image_task, pad):
    network = networks.conv4(3, norm="batch")
    start = learners.learned_init(network, ways=3, head="prototypes")
    theta = start.init(KEY, image_task)
    features, _ = network.with_statistics(
        theta["network"], image_task.support.x, image_task.support.mask
    )
    y = np.asarray(image_task.support.y)
    means = np.stack([np.asarray(features)[y == c].mean(axis=0) for c in range(3)])
    scale = 1 / features.shape[1]
    w = start.adapt(theta, image_task.support)
    np.testing.assert_allclose(w.head["kernel"], 2 * scale * means.T, rtol=1e-4, atol=1e-5)
    padded = start.adapt(theta, pad(image_task, 100.0).support)
    assert_trees_close(padded.head, w.head, rtol=1e-3)
