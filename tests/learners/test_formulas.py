"""Each learner against its formula in NumPy, the settings that it refuses, and what it learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxmeta
from jaxmeta import learners, losses, meta_objective, networks, training
from jaxmeta import tasks as families
from jaxmeta.types import Examples, Task
from tests import references
from tests.zoo import NET, hypernet, in_context, jitted, logits, neural_process, sinusoid

KEY = jax.random.key(0)


def scale(theta):
    return np.exp(theta["log_scale"])


ORACLES = {
    "matching": lambda th, *rows: references.attention(*rows, scale(th), 3),
    "matching full context": lambda th, *rows: references.attention_in_full_context(th, *rows, 3),
    "matching sparsemax": lambda th, *rows: references.sparse_attention(*rows, scale(th), 3),
    "prototypes euclidean": lambda th, *rows: references.prototypes_euclidean(*rows, scale(th), 3),
    "prototypes cosine": lambda th, *rows: references.prototypes_cosine(*rows, scale(th), 3),
    "transfer centroid": lambda th, *rows: references.prototypes_cosine(*rows, scale(th), 3),
    "transfer logistic": lambda th, *rows: references.logistic_regression(*rows, 0.1, 3),
    "ridge of few rows": lambda th, *rows: references.ridge_classifier(th, *rows, 3),
    "ridge of many rows": lambda th, *rows: references.ridge_classifier(th, *rows, 3),
    "ridge regression": lambda th, *rows: references.ridge(*rows, 0.1),
    "relation": lambda th, *rows: references.relation(th["compare"], *rows, 3),
    "neural process regression": references.neural_process,
    "neural process attentive regression": references.neural_process,
    "neural process latent regression": references.neural_process,
    "in context": references.in_context,
    "in context regression": references.in_context,
}
CLASSIFIERS = [name for name in ORACLES if "regression" not in name]
MORE_CLASSIFIERS = ["nearest neighbour", "hypernet support"]


@pytest.mark.parametrize("name", ORACLES, scope="module")
def test_logits_are_those_of_the_formula(name, draw, theta, pad):
    task = pad(draw(0), 9.0)
    params, support, query = jax.tree.map(np.asarray, (theta, task.support, task.query))
    rows, queries = (references.mlp(params["network"], x) for x in (support.x, query.x))
    want = ORACLES[name](params, queries, rows, support.y, support.mask)
    got = np.asarray(jitted(name)(theta, task))
    if name.startswith("matching"):  # log-probabilities, up to a constant of the row
        got, want = references.log_softmax(got), references.log_softmax(want)
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e6])
def test_nearest_neighbour_is_its_formula_at_every_scale(factor, task, pad):
    task = pad(task, 9.0)
    support, query = (part._replace(x=part.x * factor) for part in task[:2])
    got = jitted("nearest neighbour")({}, task._replace(support=support, query=query))
    support, query = jax.tree.map(np.asarray, (support, query))
    want = references.nearest_neighbour(query.x, *support, 3)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * factor**2)


@pytest.mark.parametrize("rank", [None, 1, 2])
def test_hypernet_predicts_with_the_perceptron_it_emits(rank, task):
    learner = hypernet(out_size=3, rank=rank)
    theta = learner.init(KEY, task)
    w = learner.adapt(theta, task.support)
    features = references.mlp(jax.tree.map(np.asarray, theta["network"]), np.asarray(task.query.x))
    want = references.mlp(jax.tree.map(np.asarray, w.layers), features)
    np.testing.assert_allclose(learner.predict(theta, w, task.query.x), want, rtol=1e-4, atol=1e-5)
    assert np.linalg.matrix_rank(w.layers[0]["kernel"]) == (rank or 5)


@pytest.mark.parametrize("name", [*CLASSIFIERS, *MORE_CLASSIFIERS], scope="module")
def test_renamed_classes_rename_logits_absent_ones_have_none(name, draw, theta):
    task = draw(0)
    x, y, mask = task.support
    new_names = jnp.array([2, 0, 1])
    renamed = task._replace(support=Examples(x, new_names[y], mask))
    z, renamed_z = (np.asarray(jitted(name)(theta, one)) for one in (task, renamed))
    np.testing.assert_allclose(renamed_z[:, new_names], z, rtol=1e-4, atol=1e-4)
    without = task._replace(support=Examples(x, y, jnp.where(y == 1, 0.0, mask)))
    chances = jax.nn.softmax(jitted(name)(theta, without))
    np.testing.assert_array_equal(chances[:, 1], 0.0)
    np.testing.assert_allclose(chances.sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("num_rows", [3, 12])
@pytest.mark.parametrize("intercept", [True, False])
def test_ridge_is_the_same_with_fewer_rows_than_features(num_rows, intercept, x64):
    rng = np.random.default_rng(0)
    x, y, query = (rng.normal(size=(rows, n)) for rows, n in ((num_rows, 5), (num_rows, 2), (4, 5)))
    learner = learners.ridge(networks.identity(), regulariser=0.3, intercept=intercept)
    support, rows = Examples(x, y, np.ones(num_rows)), Examples(query, y[:0], None)
    theta = {"network": (), "log_regulariser": np.log(0.3)}
    got = jax.jit(functools.partial(logits, learner))(theta, Task(support, rows))
    if intercept:
        want = references.ridge(query, x, y, support.mask, 0.3)
    else:
        system = x.T @ x / 5 + 0.3 * np.eye(5)
        want = query @ np.linalg.solve(system, x.T @ y) / 5
    np.testing.assert_allclose(got, want, rtol=1e-9)


def test_ridge_stays_finite_where_rows_repeat(task):
    learner = learners.ridge(networks.identity(), ways=3, regulariser=1e-12)
    repeated = task.support._replace(x=1e3 * jnp.ones_like(task.support.x))
    theta = learner.init(KEY, task)
    gradient = jax.jit(jax.grad(meta_objective(learner, losses.cross_entropy), has_aux=True))
    grad, metrics = gradient(theta, task._replace(support=repeated), None)
    assert all(jnp.isfinite(leaf).all() for leaf in (metrics["loss"], *jax.tree.leaves(grad)))


@pytest.mark.parametrize("build", [learners.ridge, learners.relation, in_context])
def test_one_theta_serves_any_number_of_ways(build, task):
    build = functools.partial(build, NET) if build is not in_context else build
    theta = build(ways=3).init(KEY, task)

    def run(ways, task):
        return np.asarray(jax.jit(functools.partial(logits, build(ways=ways)))(theta, task))

    z, wider_z = run(3, task), run(7, task)
    np.testing.assert_allclose(wider_z[:, :3], z, rtol=1e-5)
    np.testing.assert_array_equal(jax.nn.softmax(wider_z)[:, 3:], 0.0)
    # Six classes of one row each: every class has its own logit, and its row finds it.
    alone = task.support._replace(y=jnp.arange(6))
    own = task._replace(support=alone, query=alone)
    z = run(None, own)
    assert z.shape == (6, 6) and len(np.unique(z[0])) == 6
    if build.func is not learners.relation:  # its comparison is random before it is trained
        np.testing.assert_array_equal(np.argmax(z, axis=1), alone.y)


def test_neural_process_draws_its_latent_from_the_key():
    learner, task = neural_process(latent=3), sinusoid(KEY)
    theta = learner.init(KEY, task)
    draw = jax.jit(jax.vmap(lambda key: learner.adapt(theta, task.support, key=key).summary))
    draws = draw(jax.random.split(KEY, 4000))
    params, support = jax.tree.map(np.asarray, (theta, task.support))
    rows = np.column_stack([references.mlp(params["network"], support.x), support.y])
    pooled = references.mlp(params["phi"], rows).mean(axis=0)
    mean, raw = np.split(references.dense(params["latent"], pooled), 2)
    w = learner.adapt(theta, task.support)
    np.testing.assert_allclose(w.summary, mean, rtol=1e-4)
    assert w.memory is None and learner.predict(theta, w, task.query.x).shape == (5, 2)
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=0.06)
    np.testing.assert_allclose(draws.std(axis=0), 0.1 + 0.9 * references.sigmoid(raw), rtol=0.05)


@pytest.mark.parametrize("function", ["init", "adapt"])
def test_neural_process_refuses_classes(function, task):
    learner = neural_process()
    arguments = (KEY, task) if function == "init" else ({}, task.support)
    with pytest.raises(ValueError, match="regression"):
        getattr(learner, function)(*arguments)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: learners.ridge(NET, regulariser=0.0), "regulariser above zero"),
        (lambda: learners.ridge(NET, scale=-1.0), "scale above zero"),
        (lambda: learners.relation(NET, hidden=(0,)), "1 or more"),
        (lambda: neural_process(attention=True, representation_size=7), "between 2 heads"),
        (lambda: neural_process(latent=0), "latent must be 1 or more"),
        (lambda: neural_process(min_std=0.0), "min_std above zero"),
        (lambda: learners.matching(NET, attention="hard"), "'softmax' or 'sparsemax'"),
        (lambda: in_context(size=9), "between 2 heads"),
        (lambda: in_context(num_layers=0), "num_layers must be 1 or more"),
    ],
)
def test_settings_that_make_no_learner_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("build", [learners.matching, learners.prototypes, learners.ridge])
def test_labels_beyond_the_default_number_of_ways_are_refused(build, task):
    # Two rows give two columns; a label of 7 would belong to no class, and be lost in silence.
    support = Examples(task.support.x[:2], jnp.array([0, 7]), jnp.ones(2))
    learner = build(NET)
    with pytest.raises(ValueError, match="7"):
        learner.adapt(learner.init(KEY, task), support)


@pytest.mark.parametrize("rule", [True, False])
def test_hypernet_learns_two_tasks_only_with_their_rule(rule):
    learner = learners.hypernet(networks.identity(), out_size=2, hidden=(8,), context_size=16)
    sampler = families.two_tasks(rule=rule, shots=30, queries=30)
    tx = optax.adam(1e-2)
    state = training.init(learner, tx, KEY, sampler(KEY))
    step = jaxmeta.make_step(meta_objective(learner, losses.cross_entropy), tx)
    run = jax.jit(training.scan_steps(step, sampler, num_steps=300, tasks_per_step=8))
    theta, unseen = run(state)[0].theta, jax.random.key(1)
    result = jaxmeta.evaluate(learner, theta, sampler, key=unseen, num_tasks=400)
    if rule:
        assert result.mean - result.ci95 > 0.9
    else:
        assert abs(result.mean - 0.5) <= result.ci95
