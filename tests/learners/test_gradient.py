"""The gradient learners by name: what sets each apart from MAML, and their objectives."""

import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import inner, learners, losses, make_step, meta_objective, networks, sparsity, training
from jaxmeta.inner import learned_rates, masked_updates
from jaxmeta.types import Examples

KEY = jax.random.key(0)
NET = networks.mlp([6], activation=jnp.tanh)


def adapted(learner, theta, task):
    return jax.jit(learner.adapt)(theta, task.support)


def assert_trees_close(got, want, rtol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6), got, want)


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


BUILDERS = {
    "maml": learners.maml,
    "anil": learners.anil,
    "fomaml": learners.fomaml,
    "meta_sgd": learners.meta_sgd,
    "imaml": learners.imaml,
    "maml_plus_plus": learners.maml_plus_plus,
    "reptile": learners.reptile,
    "cavia": functools.partial(learners.cavia, hidden=(4,)),
}
OPTIMISERS = {
    "default": {},
    "rates": {"tx": learned_rates(0.1)},
    "gated": {"tx": masked_updates(learned_rates(0.1), sparsity.hard_concrete(0.9))},
}
MODES = [None, "full", "first_order", "truncated", inner.Truncated(0), "implicit", "evolution"]


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_what_is_not_refused_learns(name, mode, make_task):
    """Every leaf of theta has a gradient, or there is a sentence before anything is computed."""
    task = regression(make_task)
    proximities = [{}, {"proximity": 0.0}, {"proximity": 1.0}] if mode == "implicit" else [{}]
    for options in OPTIMISERS.values():
        for proximity in proximities:
            choices = {"loss": losses.mean_squared_error, "num_steps": 2} | options | proximity
            choices |= {} if mode is None else {"differentiate": mode}
            try:
                learner = BUILDERS[name](NET, **choices)
                theta = learner.init(KEY, task)
                loss_fn = objective_of(name, learner, choices)
            except ValueError as refusal:
                assert "differentiate" in str(refusal) or "tx" in str(refusal)
                continue
            grad = jax.grad(lambda theta, key: loss_fn(theta, task, key)[0])  # noqa: B023
            # The noise of one key may shut a gate.
            grad = jax.jit(jax.vmap(grad, (None, 0)))(theta, jax.random.split(KEY, 8))
            still = [
                jax.tree_util.keystr(path)
                for path, leaf in jax.tree.leaves_with_path(grad)
                if not np.abs(leaf).max() > 0
            ]
            assert not still, (name, choices, still)


def regression(make_task):
    task = make_task(0)
    rows = [
        part._replace(y=jnp.sin(part.x[:, :2]), mask=jnp.ones_like(part.mask))
        for part in (task.support, task.query)
    ]
    return task._replace(support=rows[0], query=rows[1])


def objective_of(name, learner, choices):
    if name == "reptile":
        return learners.reptile_objective(NET, **choices)
    return meta_objective(learner, losses.mean_squared_error)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: learners.maml(NET, differentiate="implicit"), "proximity=0"),
        (lambda: learners.anil(NET, differentiate=inner.Implicit("cg", 5)), "proximity=0"),
        (lambda: learners.imaml(NET, proximity=0.0), "proximity=0"),
        (lambda: learners.meta_sgd(NET, differentiate="implicit", proximity=1.0), "tx"),
        (lambda: learners.imaml(NET, tx=learned_rates(0.1)), "tx"),
        (lambda: learners.cavia(NET, tx=learned_rates(0.1), differentiate="implicit"), "tx"),
        (lambda: learners.imaml(NET, trajectory=True), "trajectory"),
        (lambda: learners.reptile_objective(NET, tx=learned_rates(0.1)), "tx"),
        (lambda: learners.reptile_objective(NET, trajectory=True), "trajectory"),
        (lambda: learners.reptile(NET, where=lambda w: True), "where"),
        (lambda: learners.fomaml(NET, differentiate="full"), "differentiate"),
        (lambda: learners.reptile(NET, differentiate="full"), "differentiate"),
        (lambda: learners.meta_sgd(NET, tx=optax.sgd(0.1)), "tx"),
        (lambda: learners.maml_plus_plus(NET, tx=optax.sgd(0.1)), "tx"),
        (lambda: learners.anil(NET, where=lambda w: True), "where"),
        (lambda: learners.multi_step_objective(learners.imaml, multi_step_until=-1), "from 0"),
        (lambda: learners.multi_step_objective(functools.partial(learners.fomaml, NET)), "fomaml"),
    ],
)
def test_what_cannot_learn_is_refused_where_it_is_put_together(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_multi_step_objective_wants_every_step(task):
    loss_fn = learners.multi_step_objective(lambda **_: learners.maml(NET, ways=3))
    theta = learners.maml(NET, ways=3).init(KEY, task)
    with pytest.raises(ValueError, match="hand the keywords"):
        loss_fn(theta, task, None)


@pytest.mark.slow
def test_cavia_learns_by_the_implicit_gradient_without_proximity(task):
    # A context larger than the hidden layer could make up for any bias.
    learner = learners.cavia(
        NET, context_size=2, hidden=(5,), ways=3, num_steps=50, differentiate="implicit"
    )
    theta = learner.init(KEY, task)
    loss_fn = meta_objective(learner, losses.cross_entropy)
    grad = jax.jit(jax.grad(lambda theta: loss_fn(theta, task, None)[0]))(theta)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grad))


def test_settings_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="'shared' or 'separate'"):
        learners.maml(NET, head="zero")
    with pytest.raises(ValueError, match="'support' or 'query'"):
        learners.maml(NET, statistics="running")


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


def test_a_regression_has_no_prototypes(task):
    rows = task.support._replace(y=task.support.x[:, :2])
    learner = learners.maml(NET, loss=losses.mean_squared_error, head="prototypes")
    with pytest.raises(ValueError, match="means of classes"):
        learner.init(KEY, task._replace(support=rows))
    theta = learners.maml(NET, head="prototypes").init(KEY, task)
    with pytest.raises(ValueError, match="'shared' or 'separate' for regression"):
        learner.adapt(theta, rows)
