"""Settings of the gradient learners: each that is not refused learns in all of theta."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import inner, learners, losses, meta_objective, sparsity
from jaxmeta.inner import learned_rates, masked_updates
from tests.learners.adapting import KEY, NET

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


def test_a_regression_has_no_prototypes(task):
    rows = task.support._replace(y=task.support.x[:, :2])
    learner = learners.maml(NET, loss=losses.mean_squared_error, head="prototypes")
    with pytest.raises(ValueError, match="means of classes"):
        learner.init(KEY, task._replace(support=rows))
    theta = learners.maml(NET, head="prototypes").init(KEY, task)
    with pytest.raises(ValueError, match="'shared' or 'separate' for regression"):
        learner.adapt(theta, rows)
