"""The gradient learners by name: what sets each apart from MAML, and their objectives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import learners, losses, make_step, meta_objective, networks, training
from jaxmeta.types import Examples
from tests.learners.adapting import KEY, NET, adapted, assert_trees_close


def steps_by_hand(theta, rows, num_steps, rate, ways=3):
    """MAML's inner loop with a shared head, written out: `body, head`."""
    body = theta["network"]
    head = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (*leaf.shape[:-1], ways)), theta["head"]
    )

    def loss(params):
        body, head = params
        z = NET.apply(body, rows.x) @ head["kernel"] + head["bias"][None]
        return losses.cross_entropy(z, rows.y, rows.mask)

    params = (body, head)
    for _ in range(num_steps):
        params = jax.tree.map(lambda p, g: p - rate * g, params, jax.grad(loss)(params))
    return params


def test_maml_takes_gradient_steps_on_the_support_set(task):
    learner = learners.maml(NET, num_steps=3, rate=0.3, ways=3)
    theta = learner.init(KEY, task)
    w = adapted(learner, theta, task)
    assert_trees_close((w.body, w.head), steps_by_hand(theta, task.support, 3, 0.3))


def test_anil_moves_the_head_alone(task):
    learner = learners.anil(NET, num_steps=2, rate=0.3, ways=3)
    theta = learner.init(KEY, task)
    w = adapted(learner, theta, task)
    jax.tree.map(np.testing.assert_array_equal, w.body, theta["network"])
    assert np.ptp(w.head["kernel"], axis=1).max() > 1e-3


def test_meta_sgd_learns_a_rate_for_each_number_of_w(task):
    learner = learners.meta_sgd(NET, rate=0.3, num_steps=1, ways=3)
    theta = learner.init(KEY, task)
    rates = jax.tree.map(lambda leaf: leaf.shape, theta.optimiser)
    w = adapted(learner, theta, task)
    assert (rates.body, rates.head) == jax.tree.map(lambda leaf: leaf.shape, (w.body, w.head))
    assert_trees_close((w.body, w.head), steps_by_hand(theta.learner, task.support, 1, 0.3))
    # The gradient of the loss in a rate is -(gradient after the step) * (gradient before it).
    still = theta._replace(optimiser=jax.tree.map(jnp.zeros_like, theta.optimiser))
    same = adapted(learner, still, task)
    jax.tree.map(np.testing.assert_array_equal, same.body, theta.learner["network"])


def test_imaml_stays_near_its_start(task):
    far, near = (
        adapted(learner, learner.init(KEY, task), task)
        for learner in (learners.imaml(NET, proximity=p, num_steps=50, ways=3) for p in (0.1, 10.0))
    )
    start = learners.learned_init(NET, ways=3)
    w = start.adapt(start.init(KEY, task), task.support)
    distances = [optax.tree.norm(optax.tree.sub(each.body, w.body)) for each in (far, near)]
    assert distances[0] > 3 * distances[1] > 0


@pytest.mark.parametrize("film", [False, True])
def test_cavia_moves_a_few_context_parameters(task, film):
    learner = learners.cavia(
        NET, context_size=4, hidden=(5,), film=film, num_steps=3, rate=0.5, ways=3
    )
    theta = learner.init(KEY, task)
    w = adapted(learner, theta, task)
    assert w.context.shape == (4,) and np.abs(w.context).min() > 0

    def loss(context):
        features = NET.apply(theta["network"], task.support.x)
        if film:
            features = features * (1 + context @ theta["film"])[None]
        rows = jnp.concatenate([features, jnp.tile(context, (len(features), 1))], axis=1)
        z = networks.mlp([5, 3]).apply(theta["decoder"], rows)
        return losses.cross_entropy(z, task.support.y, task.support.mask)

    context = jnp.zeros(4)
    for _ in range(3):
        context = context - 0.5 * jax.grad(loss)(context)
    np.testing.assert_allclose(w.context, context, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="say how many"):
        learners.cavia(NET).init(KEY, task)


def test_reptiles_gradient_is_the_way_from_w_k_to_w_0(task):
    options = {"num_steps": 4, "rate": 0.3, "ways": 3}
    theta = learners.reptile(NET, **options).init(KEY, task)
    loss_fn = learners.reptile_objective(NET, **options)
    grad = jax.jit(jax.grad(lambda theta: loss_fn(theta, task, None)[0]))(theta)
    rows = Examples(*map(jnp.concatenate, zip(task.support, task.query, strict=True)))
    body, head = steps_by_hand(theta, rows, 4, 0.3)
    assert_trees_close(grad["network"], optax.tree.sub(theta["network"], body), rtol=1e-4)
    # All classes start from one column: its gradient is the sum over them.
    moved = jax.tree.map(lambda old, new: (old - new).sum(-1, keepdims=True), theta["head"], head)
    assert_trees_close(grad["head"], moved, rtol=1e-4)


@pytest.fixture(scope="module")
def multi_step():
    build = functools.partial(learners.maml_plus_plus, NET, num_steps=3, rate=0.3, ways=3)
    objective = learners.multi_step_objective(
        build,
        multi_step_until=10,
        second_order_from=5,
        metrics={"accuracy": losses.accuracy},
    )
    return build, jax.jit(jax.value_and_grad(objective, has_aux=True))


def test_the_multi_step_loss_wanders_from_all_steps_to_the_last(task, multi_step):
    build, value_and_grad = multi_step
    theta = build().init(KEY, task)
    assert {leaf.shape for leaf in jax.tree.leaves(theta.optimiser)} == {(3,)}
    each = []
    for k in (1, 2, 3):
        learner = learners.maml(NET, num_steps=k, rate=0.3, ways=3)
        loss_fn = meta_objective(learner, losses.cross_entropy)
        each.append(loss_fn(theta.learner, task, None)[0])
    for step, weights in ((0, [1, 1, 1]), (5, [1, 1, 4]), (10, [0, 0, 1]), (99, [0, 0, 1])):
        (loss, metrics), _ = value_and_grad(theta, task, None, step)
        np.testing.assert_allclose(loss, np.average(each, weights=weights), rtol=1e-5)
        np.testing.assert_allclose(metrics["task_loss"], each[-1], rtol=1e-5)


@pytest.mark.slow
def test_its_gradient_is_first_order_first_and_exact_later(task, multi_step):
    build, value_and_grad = multi_step
    theta = build().init(KEY, task)
    grads = {}
    for mode in ("first_order", "full"):
        loss_fn = meta_objective(build(differentiate=mode), losses.cross_entropy)
        grads[mode] = jax.grad(lambda theta: loss_fn(theta, task, None)[0])(theta)  # noqa: B023
    _, late = value_and_grad(theta, task, None, 50)
    assert_trees_close(late, grads["full"], rtol=1e-4)
    objective = learners.multi_step_objective(build, second_order_from=5)
    early = jax.grad(lambda theta: objective(theta, task, None, 0)[0])(theta)
    assert_trees_close(early, grads["first_order"], rtol=1e-4)
    gap = optax.tree.norm(optax.tree.sub(grads["full"], grads["first_order"]))
    assert gap > 1e-2 * optax.tree.norm(grads["full"])


def test_it_trains_with_the_outer_step(task):
    build = functools.partial(learners.maml_plus_plus, NET, num_steps=2, ways=3)
    objective = learners.multi_step_objective(build, multi_step_until=2, second_order_from=1)
    tx = optax.adam(1e-2)
    state = training.init(build(), tx, KEY, task)
    step = jax.jit(make_step(objective, tx))
    tasks = jax.tree.map(lambda leaf: leaf[None], task)
    reported = []
    for _ in range(5):
        state, metrics = step(state, tasks)
        reported.append(float(metrics["task_loss"]))
    assert reported[-1] < reported[0] and int(state.step) == 5
