"""The checked mode: every mistake in a user's function names the learner and the function."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental import checkify

from jaxmeta import learners, losses, make_step, meta_objective, networks, training, transforms

GOOD = learners.prototypes(networks.mlp([3]), ways=3)


def checked(**functions):
    return transforms.checked(GOOD._replace(**functions), name="mine")


@pytest.fixture
def theta(task):
    return GOOD.init(jax.random.key(0), task)


def loss_of(function, task):
    return lambda: transforms.checked_loss(function, name="mine")(
        jnp.ones((5, 3)), task.query.y, task.query.mask
    )


def test_a_learner_without_a_mistake_is_the_same_learner(task, theta):
    mine, loss = checked(), transforms.checked_loss(losses.cross_entropy, name="mine")
    jax.tree.map(np.testing.assert_array_equal, mine.init(jax.random.key(0), task), theta)
    w = mine.adapt(theta, task.support)
    jax.tree.map(np.testing.assert_array_equal, w, GOOD.adapt(theta, task.support))
    z = mine.predict(theta, w, task.query.x)
    np.testing.assert_array_equal(z, GOOD.predict(theta, w, task.query.x))
    want = losses.cross_entropy(z, task.query.y, task.query.mask)
    assert loss(z, task.query.y, task.query.mask) == want


MISTAKES = {
    "a string in theta": (
        lambda task, theta: checked(init=lambda key, task: {"name": "net"}).init(0, task),
        r"^mine.init returned theta\['name'\] of type str",
    ),
    "NaN in theta": (
        lambda task, theta: checked(init=lambda key, task: [jnp.nan]).init(0, task),
        r"^mine.init returned theta\[0\] with values that are NaN",
    ),
    "a malformed task": (
        lambda task, theta: checked().init(0, task._replace(support=task.support[:2] + (0,))),
        "^mine.init: The support set must be",
    ),
    "theta of another structure": (
        lambda task, theta: checked().adapt({"network": theta["network"]}, task.support),
        r"^mine.adapt was given .*\['log_scale'\] is missing where float32\[\] is needed",
    ),
    "theta of another shape": (
        lambda task, theta: checked().adapt(theta | {"log_scale": jnp.ones(2)}, task.support),
        r"^mine.adapt .*\['log_scale'\] is float32\[2\] where float32\[\]",
    ),
    "NaN in the support set": (
        lambda task, theta: checked().adapt(theta, task.support._replace(x=task.support.x / 0)),
        "^mine.adapt: The support inputs hold",
    ),
    "a function in w": (
        lambda task, theta: checked(adapt=lambda *args, **kwargs: [max]).adapt(theta, task.support),
        r"^mine.adapt returned w\[0\] of type builtin_function",
    ),
    "NaN in w": (
        lambda task, theta: checked(
            adapt=lambda *args, **kwargs: {"means": jnp.log(-jnp.ones(3))}
        ).adapt(theta, task.support),
        r"^mine.adapt returned w\['means'\] with values that are NaN",
    ),
    "one row too few": (
        lambda task, theta: checked(predict=lambda theta, w, x: x[1:]).predict(0, 0, task.query.x),
        r"^mine.predict returned z of shape \(4, 4\) for x \(5, 4\); it has to be \[5, C\]",
    ),
    "no column": (
        lambda task, theta: checked(predict=lambda theta, w, x: x[:, 0]).predict(
            0, 0, task.query.x
        ),
        r"^mine.predict returned z of shape \(5,\)",
    ),
    "classes instead of logits": (
        lambda task, theta: checked(predict=lambda theta, w, x: jnp.ones((5, 3), int)).predict(
            0, 0, task.query.x
        ),
        "^mine.predict returned z of dtype int32",
    ),
    "a loss for each row": (
        lambda task, theta: loss_of(lambda z, y, mask: z.mean(axis=1), task)(),
        r"^mine.loss returned float32\[5\]; a loss is one",
    ),
    "a count of errors": (
        lambda task, theta: loss_of(lambda z, y, mask: (y == 0).sum(), task)(),
        r"^mine.loss returned int32\[\]",
    ),
    "an infinite loss": (
        lambda task, theta: loss_of(lambda z, y, mask: z.sum() * jnp.inf, task)(),
        "^mine.loss returned the loss with values that are NaN or infinite",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_names_the_learner_and_the_function(mistake, task, theta):
    call, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message):
        call(task, theta)


def test_shapes_are_looked_at_under_jit_too(task, theta):
    mine = checked(predict=lambda theta, w, x: x[1:])
    with pytest.raises(ValueError, match="mine.predict returned z of shape"):
        jax.jit(mine.predict)(theta, 0.0, task.query.x)


def test_an_error_of_the_function_itself_is_noted(task, theta):
    mine = checked(predict=lambda theta, w, x: w["missing"])
    with pytest.raises(KeyError, match="missing") as caught:
        mine.predict(theta, {}, task.query.x)
    assert "(in mine.predict)" in caught.value.__notes__


def test_values_in_a_compiled_step_are_seen_by_checkify_alone(make_task):
    tx, batch = (
        optax.sgd(0.1),
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(make_task, (0, 1))),
    )

    def overflowing(theta, w, x):
        z = GOOD.predict(theta, w, x)
        return jnp.where(x[:, :1] > 1.0, jnp.log(z - z), z)

    mine = checked(predict=overflowing)
    state = training.init(mine, tx, jax.random.key(0), make_task(0))
    step = jax.jit(make_step(meta_objective(mine, losses.cross_entropy), tx))
    error, _ = checkify.checkify(step)(state, batch)
    with pytest.raises(checkify.JaxRuntimeError, match="mine.predict returned z with values that"):
        error.throw()
    good = jax.jit(make_step(meta_objective(checked(), losses.cross_entropy), tx))
    error, _ = checkify.checkify(good)(state, batch)
    error.throw()
    plain = jax.jit(make_step(meta_objective(GOOD, losses.cross_entropy), tx))
    looks = [
        each.lower(state, batch).compile().as_text().count("is-finite(") for each in (good, plain)
    ]
    assert looks[0] == looks[1]
