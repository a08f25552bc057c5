"""Mistakes in tasks, told wherever their values are known: one rule for every way in."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental import checkify

from jaxmeta import (
    Examples,
    MetaLearner,
    Task,
    evaluate,
    learners,
    losses,
    make_step,
    meta_objective,
    networks,
    training,
    transforms,
)

WAYS, KEY, TX = 3, jax.random.key(0), optax.sgd(0.1)
LEARNER = learners.prototypes(networks.mlp([4]), ways=WAYS)


def good_task(seed=0):
    rng = np.random.default_rng(seed)
    parts = []
    for rows in (6, 9):
        y = np.arange(rows) % WAYS
        parts.append(Examples(rng.normal(size=(rows, 4)) + y[:, None], y, np.ones(rows)))
    cast = {"f": np.float32, "i": np.int32}
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, cast[leaf.dtype.kind]), Task(*parts))


def stack(*tasks):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *tasks)


def change(part, name, function):
    """A task, one leaf of one part of which is changed."""

    def mistake(task):
        rows = getattr(task, part)
        return task._replace(**{part: rows._replace(**{name: function(getattr(rows, name))})})

    return mistake


MISTAKES = {
    "support labels from one": (change("support", "y", lambda y: y + 1), "labels run from 1 to 3"),
    "query labels from one": (change("query", "y", lambda y: y + 1), "labels run from 1 to 3"),
    "a query label of -1": (change("query", "y", lambda y: y.at[2].set(-1)), "run from -1 to"),
    "a weight for a mask": (
        change("support", "mask", lambda m: m.at[1].set(0.5)),
        "holds 0.5",
    ),
    "a mask of two": (change("query", "mask", lambda m: m.at[1].set(2.0)), "mask holds 2"),
    "no support rows": (change("support", "mask", lambda m: 0 * m), "support set is empty"),
    "no query rows": (change("query", "mask", lambda m: 0 * m), "query set is empty"),
    "NaN in the support": (
        change("support", "x", lambda x: x.at[0, 0].set(jnp.nan)),
        "support",
    ),
    "infinity in a query": (
        change("query", "x", lambda x: x.at[0, 0].set(jnp.inf)),
        "query inputs",
    ),
    "labels of floats": (change("query", "y", lambda y: y.astype(float)), "classes are integers"),
    "images not scaled": (change("query", "x", lambda x: x.astype(int)), "scale and cast both"),
    "other features": (change("query", "x", lambda x: x[:, :2]), "they must be alike"),
}


@pytest.fixture(params=MISTAKES)
def mistaken(request):
    mistake, message = MISTAKES[request.param]
    return mistake(good_task()), message


@pytest.fixture(scope="module")
def theta():
    return LEARNER.init(KEY, good_task())


def test_evaluate_names_a_bad_task_of_a_batch(mistaken, theta):
    task, message = mistaken
    others = good_task(1) if task.query.x.shape == (9, 4) else task
    y, x = task.query.y.dtype, task.query.x.dtype
    query = others.query._replace(y=others.query.y.astype(y), x=others.query.x.astype(x))
    with pytest.raises(ValueError, match=message):
        evaluate(LEARNER, theta, stack(others._replace(query=query), task))


def test_evaluate_names_a_bad_task_of_a_sampler(mistaken, theta):
    task, message = mistaken
    with pytest.raises(ValueError, match=message):
        evaluate(LEARNER, theta, lambda key: task, key=KEY, num_tasks=2)


def test_a_step_that_is_not_traced_names_a_bad_task(mistaken):
    task, message = mistaken
    state = training.init(LEARNER, TX, KEY, good_task())
    step = make_step(meta_objective(LEARNER, losses.cross_entropy), TX)
    with pytest.raises(ValueError, match=message):
        step(state, stack(task, task))


OBJECTIVES = {
    "one of one's own": lambda theta, task, key: meta_objective(LEARNER, losses.cross_entropy)(
        theta, task, key
    ),
    "pre-training": learners.pretrain_objective(networks.mlp([4])),
    "reptile": learners.reptile_objective(networks.mlp([4]), ways=WAYS, num_steps=1),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_number_of_classes_is_found_in_any_objective(name):
    learner = {
        "pre-training": learners.transfer(networks.mlp([4]), num_classes=WAYS),
        "reptile": learners.maml(networks.mlp([4]), ways=WAYS),
    }.get(name, LEARNER)
    state = training.init(learner, TX, KEY, good_task())
    step = make_step(OBJECTIVES[name], TX)
    step(state, stack(good_task(), good_task()))
    bad = change("query", "y", lambda y: y + 1)(good_task())
    with pytest.raises(ValueError, match=r"Task 1: .*in 0\.\.2"):
        step(state, stack(good_task(), bad))


def test_the_message_has_the_number_of_the_first_bad_task(theta):
    bad = change("support", "y", lambda y: y + 1)(good_task())
    with pytest.raises(ValueError, match="Task 2: The support labels"):
        evaluate(LEARNER, theta, stack(good_task(), good_task(1), bad, bad))


NO_BATCHES = {
    "a list": [good_task(0), good_task(1)],
    "a generator": (good_task(seed) for seed in range(2)),
    "a tuple": (good_task(0), good_task(1)),
    "one task": good_task(),
    "a task of no tasks": jax.tree.map(lambda leaf: leaf[None][:0], good_task()),
}


@pytest.mark.parametrize("name", NO_BATCHES)
@pytest.mark.parametrize("key", [None, KEY])
def test_evaluate_says_what_a_batch_is(name, key, theta):
    with pytest.raises(ValueError, match="A batch is one Task|The batch holds no tasks"):
        evaluate(LEARNER, theta, NO_BATCHES[name], key=key)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", [name for name in NO_BATCHES if name != "a generator"])
def test_a_step_says_what_a_batch_is(name, compiled):
    step = make_step(meta_objective(LEARNER, losses.cross_entropy), TX)
    state = training.init(LEARNER, TX, KEY, good_task())
    with pytest.raises(ValueError, match="A batch is one Task|The batch holds no tasks"):
        (jax.jit(step) if compiled else step)(state, NO_BATCHES[name])


def test_targets_without_a_metric_and_metrics_of_no_number(theta):
    ridge, task = learners.ridge(networks.mlp([4])), good_task()
    hot = task._replace(
        support=task.support._replace(y=jax.nn.one_hot(task.support.y, 3)),
        query=task.query._replace(y=jax.nn.one_hot(task.query.y, 3)),
    )
    start = ridge.init(KEY, hot)
    with pytest.raises(ValueError, match="metric=losses.mean_squared_error"):
        evaluate(ridge, start, stack(hot))
    assert evaluate(ridge, start, stack(hot), metric=losses.mean_squared_error).mean > 0
    with pytest.raises(ValueError, match=r"metric returned an array of shape \(9,\)"):
        evaluate(LEARNER, theta, stack(task), metric=lambda z, y, mask: z.max(axis=1))
    with pytest.raises(ValueError, match=r"classes y \[N\]"):
        losses.accuracy(jnp.ones((9, 3)), hot.query.y, task.query.mask)
    with pytest.raises(ValueError, match="one number a row"):
        losses.mean_squared_error(jnp.ones((9, 3)), hot.query.y, task.query.mask[None])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((2, 4), np.uint8), "uint8; scale and cast"),
        (np.full((2, 4), np.nan, np.float32), "8 values that are NaN"),
        (np.ones(4, np.float32), "one row is x"),
    ],
)
@pytest.mark.parametrize("build", [learners.prototypes, learners.maml, learners.ridge])
def test_predict_refuses_what_adapt_refuses(build, x, message):
    learner, task = build(networks.mlp([4]), ways=WAYS), good_task()
    theta = learner.init(KEY, task)
    w = learner.adapt(theta, task.support)
    with pytest.raises(ValueError, match=message):
        learner.predict(theta, w, x)


@pytest.mark.parametrize("name", ["support labels from one", "a weight for a mask", "NaN in the s"])
def test_checked_says_under_tracing_what_eager_calls_say(name, theta):
    mistake = next(MISTAKES[each][0] for each in MISTAKES if each.startswith(name))
    task = mistake(good_task())
    mine = transforms.checked(LEARNER, name="mine")
    loss = transforms.checked_loss(losses.cross_entropy, name="mine")

    def objective(theta, task):
        return meta_objective(mine, loss)(theta, task, None)[0]

    error, _ = checkify.checkify(jax.jit(objective))(theta, good_task())
    assert error.get() is None
    query = task.support._replace(x=good_task().support.x) if "labels" in name else None
    task = task._replace(support=good_task().support, query=query) if query else task
    error, _ = checkify.checkify(jax.jit(objective))(theta, task)
    assert "mine." in error.get()


def test_a_learner_of_ones_own_may_read_labels_as_it_likes():
    """One logit for two classes: nobody in the library reads these labels."""
    mine = MetaLearner(
        init=lambda key, task: jnp.zeros(()),
        adapt=lambda theta, support, *, description=None, key=None: support.x.mean(axis=0),
        predict=lambda theta, w, x: (x - w[None]).sum(axis=1, keepdims=True),
    )

    def right(z, y, mask):
        return losses.masked_mean(((z[:, 0] > 0) == (y == 1)).astype(jnp.float32), mask)

    task = good_task()
    two = task._replace(query=task.query._replace(y=task.query.y % 2))
    assert 0.0 <= evaluate(mine, jnp.zeros(()), stack(two), metric=right).mean <= 1.0


def test_labels_no_metric_reads_are_of_the_supports_classes(theta):
    def confidence(z, y, mask):
        return losses.masked_mean(jax.nn.softmax(z).max(axis=1), mask)

    assert evaluate(LEARNER, theta, stack(good_task()), metric=confidence).mean > 0
    bad = change("query", "y", lambda y: y + 1)(good_task())
    with pytest.raises(ValueError, match=r"query labels run from 1 to 3.*ways=3"):
        evaluate(LEARNER, theta, stack(bad), metric=confidence)


def test_lists_of_arrays_are_a_task_of_ones_own_and_let_be():
    def loss_fn(theta, task, key):
        return jnp.square(theta - task["x"]).sum(), {}

    state = training.TrainState(jnp.zeros(2), TX.init(jnp.zeros(2)), KEY, jnp.zeros((), jnp.int32))
    state, _ = make_step(loss_fn, TX)(state, {"x": jnp.ones((3, 2))})
    np.testing.assert_allclose(state.theta, 0.2, rtol=1e-6)
