"""Classes that a task has no support row of: left out, counted, and chosen by nobody."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import (
    Examples,
    Task,
    evaluate,
    export,
    learners,
    losses,
    make_step,
    meta_objective,
    networks,
    training,
)
from jaxmeta._absent import least
from tests.zoo import CLASSIFIERS, jitted, logits

KEY = jax.random.key(0)
ZERO_SHOT = ["hypernet description"]  # it knows the classes from what the task is about
LEARNERS = {name: each for name, each in CLASSIFIERS.items() if name not in ZERO_SHOT}
METRICS = {"accuracy": losses.accuracy}


@pytest.fixture(params=LEARNERS)
def name(request):
    return request.param


def without(task, label):
    """The task without support rows of a class, and how many query rows are of it."""
    support, query = task.support, task.query
    rare = task._replace(
        support=support._replace(mask=jnp.where(support.y == label, 0.0, support.mask))
    )
    return rare, int(((query.y == label) & (query.mask > 0)).sum())


def with_labels(task):
    """Queries of all three classes, one of which is padding."""
    return task._replace(query=task.query._replace(y=jnp.array([0, 1, 1, 2, -1])))


def test_rows_that_cannot_be_right_are_left_out_and_counted(name, task):
    learner, task = LEARNERS[name], with_labels(task)
    theta = learner.init(KEY, task)
    rare, count = without(task, 1)
    assert count == 2
    known = rare._replace(
        query=rare.query._replace(mask=jnp.where(rare.query.y == 1, 0.0, rare.query.mask))
    )
    loss_fn = jax.jit(
        jax.value_and_grad(
            meta_objective(learner, losses.cross_entropy, metrics=METRICS), has_aux=True
        )
    )
    (loss, metrics), gradient = loss_fn(theta, rare, None)
    (want, wanted), wanted_gradient = loss_fn(theta, known, None)
    assert metrics.pop("left_out") == count and wanted.pop("left_out") == 0
    np.testing.assert_allclose(loss, want, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), metrics, wanted)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradient, wanted_gradient
    )
    batch = jax.tree.map(lambda leaf: leaf[None], rare)
    result = evaluate(learner, theta, batch)
    assert result.left_out == count and result.num_tasks == 1
    np.testing.assert_allclose(result.mean, metrics["accuracy"], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e8, 1e17])
def test_an_absent_class_is_chosen_at_no_scale_of_the_inputs(name, task, scale):
    theta = LEARNERS[name].init(KEY, task)
    rare, _ = without(task, 1)
    rare = rare._replace(
        support=rare.support._replace(x=scale * rare.support.x),
        query=rare.query._replace(x=scale * rare.query.x),
    )
    z = np.asarray(jitted(name)(theta, rare))
    if np.isnan(z).any():  # steps of descent on inputs of that size end anywhere
        assert "maml" in name or name in ("anil", "fomaml", "meta_sgd", "imaml") or scale > 1
        return
    assert (z.argmax(axis=1) != 1).all()
    assert (z[:, 1] == least(z)).all() and (z[:, [0, 2]] > least(z)).all()
    np.testing.assert_array_equal(jax.nn.softmax(jnp.asarray(z))[:, 1], 0.0)


def test_a_task_of_which_no_row_can_be_judged_has_no_accuracy():
    learner = learners.prototypes(networks.identity(), ways=3)
    x, ones = jnp.eye(3), jnp.ones(3)
    usual = Task(Examples(x, jnp.arange(3), ones), Examples(x, jnp.arange(3), ones))
    empty = usual._replace(
        support=usual.support._replace(mask=jnp.array([1.0, 0.0, 0.0])),
        query=usual.query._replace(mask=jnp.array([0.0, 1.0, 1.0])),
    )
    theta = learner.init(KEY, usual)
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), usual, empty, usual)
    result = evaluate(learner, theta, batch)
    assert result.mean == 1.0 and result.num_tasks == 2 and result.unjudged == (1,)
    assert np.isnan(result.per_task[1]) and result.left_out == 2
    alone = evaluate(learner, theta, jax.tree.map(lambda leaf: leaf[1:2], batch))
    assert np.isnan(alone.mean) and alone.num_tasks == 0


def test_predictions_that_are_nan_have_no_accuracy(name, task):
    learner = LEARNERS[name]
    theta = jax.tree.map(lambda leaf: leaf * jnp.nan, learner.init(KEY, task))
    if not jax.tree.leaves(theta):
        return
    batch = jax.tree.map(lambda leaf: leaf[None], task)
    assert np.isnan(evaluate(learner, theta, batch).mean)


def test_a_users_own_loss_is_given_the_rows_that_can_be_right(task):
    def squares(z, y, mask):
        error = jnp.square(jax.nn.softmax(z) - jax.nn.one_hot(y, 3)).sum(axis=1)
        return losses.masked_mean(error, mask)

    learner = learners.prototypes(networks.mlp([4]), ways=3)
    rare, _ = without(with_labels(task), 1)
    theta = learner.init(KEY, task)
    z = logits(learner, theta, rare)
    want = squares(z, rare.query.y, jnp.array([1.0, 0.0, 0.0, 1.0, 0.0]))
    np.testing.assert_allclose(meta_objective(learner, squares)(theta, rare, None)[0], want)
    step = make_step(meta_objective(learner, squares), optax.sgd(0.1))
    state = training.init(learner, optax.sgd(0.1), KEY, task)
    _, metrics = step(state, jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), rare))
    assert metrics["left_out"] == 2


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e10, 1e19])
@pytest.mark.parametrize("name", ["prototypes", "cosine", "matching", "ridge"])
def test_the_exported_file_chooses_no_absent_class_either(name, scale):
    rng = np.random.default_rng(0)
    build = {
        "prototypes": lambda net: learners.prototypes(net, ways=4),
        "cosine": lambda net: learners.prototypes(net, distance="cosine", ways=4),
        "matching": lambda net: learners.matching(net, ways=4),
        "ridge": lambda net: learners.ridge(net, ways=4),
    }[name]
    learner = build(networks.identity())
    x = (scale * rng.normal(size=(6, 5))).astype(np.float32)
    support = Examples(jnp.asarray(x), jnp.array([0, 1, 3, 0, 1, 3]), jnp.ones(6))
    theta = learner.init(KEY, Task(support, support))
    w = learner.adapt(theta, support)
    distance = "cosine" if name == "cosine" else "euclidean"
    predict = export.load(export.numpy_source(export.perceptron(theta, w, distance=distance)))
    queries = (scale * rng.normal(size=(50, 5))).astype(np.float32)
    got, want = predict(queries), np.asarray(learner.predict(theta, w, queries))
    assert (got[:, 2] == least(got)).all() and (got.argmax(axis=1) != 2).all()
    if scale < 1e19 or name != "ridge":  # sums of such squares pass what ridge can hold
        np.testing.assert_array_equal(got.argmax(axis=1), want.argmax(axis=1))


def test_the_text_of_a_file_has_no_made_up_number():
    learner = learners.prototypes(networks.identity(), ways=4)
    support = Examples(jnp.eye(3), jnp.arange(3), jnp.ones(3))
    theta = learner.init(KEY, Task(support, support))
    source = export.numpy_source(export.perceptron(theta, learner.adapt(theta, support)))
    assert "1e+30" not in source and "1e30" not in source
