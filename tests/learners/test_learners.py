"""What every learner promises, in one suite over all of them."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import meta_objective, sparsity, transforms
from jaxmeta.types import Examples
from tests.zoo import LEARNERS, jitted, logits, task_loss

ORDER_MATTERS = ["matching full context"]
NOTHING_TO_LEARN = ["nearest neighbour"]
FIRST_ORDER = ["fomaml"]  # its gradient is not the derivative of its loss
KEY = jax.random.key(0)


@functools.cache
def jitted_gradient(name):
    """`(theta, task, None) -> (loss, metrics), gradient` of the meta-objective, logits included."""
    # The penalty is there for the padded rows that a `w` may hold: they must not count either.
    loss_fn = meta_objective(
        LEARNERS[name], task_loss(name), sparsity.l1, eta=1e-3, metrics={"z": lambda z, y, mask: z}
    )
    return jax.jit(jax.value_and_grad(loss_fn, has_aux=True))


@pytest.fixture(params=LEARNERS, scope="module")
def name(request):
    return request.param


def test_vmap_over_tasks_is_a_loop_over_tasks(name, draw, theta):
    tasks = [draw(seed) for seed in range(3)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *tasks)
    together = jax.jit(jax.vmap(functools.partial(logits, LEARNERS[name]), (None, 0)))(theta, batch)
    alone = [jitted(name)(theta, task) for task in tasks]
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-4, atol=1e-4)
    assert not np.allclose(alone[0], alone[1])


def test_padding_changes_neither_logits_nor_gradient(name, draw, theta, pad, x64):
    theta, task = x64((theta, draw(0)))
    (_, metrics), grad = jitted_gradient(name)(theta, task, None)
    (_, padded_metrics), padded_grad = jitted_gradient(name)(theta, pad(task, 1e6), None)
    for key in ("z", "loss"):
        np.testing.assert_allclose(padded_metrics[key], metrics[key], rtol=1e-8)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-8), padded_grad, grad)


def test_support_rows_have_no_order_but_in_full_context(name, draw, theta):
    task = draw(0)
    turned = task._replace(support=jax.tree.map(lambda leaf: leaf[::-1], task.support))
    z, turned_z = (jitted(name)(theta, one) for one in (task, turned))
    assert np.allclose(z, turned_z, rtol=1e-4, atol=1e-4) == (name not in ORDER_MATTERS)


def test_query_rows_are_predicted_independently_of_each_other(name, draw, theta):
    task = draw(0)
    alone = task.query._replace(x=jnp.broadcast_to(task.query.x[:1], task.query.x.shape))
    z, alone_z = (jitted(name)(theta, one) for one in (task, task._replace(query=alone)))
    np.testing.assert_allclose(z[0], alone_z[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_gradient_of_the_meta_objective_is_its_finite_difference(name, draw, theta, seed, x64):
    theta, task = x64((theta, draw(0)))
    rng = np.random.default_rng(seed)
    direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), theta)
    moved = [jax.tree.map(lambda p, d, h=h: p + h * d, theta, direction) for h in (1e-6, -1e-6)]
    (up, _), (down, _), (_, grad) = (
        jitted_gradient(name)(params, task, None) for params in (*moved, theta)
    )
    slope = sum(jax.tree.leaves(jax.tree.map(np.vdot, grad, direction)))
    exact = np.isclose(slope, (up[0] - down[0]) / 2e-6, rtol=1e-4, atol=0)
    assert exact == (name not in FIRST_ORDER)
    assert abs(slope) > 1e-6 or name in NOTHING_TO_LEARN


def test_neither_other_data_nor_a_restored_theta_is_traced_again(name, draw, theta, count_traces):
    function, traces = count_traces(functools.partial(logits, LEARNERS[name]))
    restored = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), theta)
    for seed, params in enumerate((theta, theta, restored)):
        jax.eval_shape(function, params, draw(seed))
    assert len(traces) == 1


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_inputs_of_half_precision_give_nearly_the_same_answer(name, draw, theta, dtype):
    task = draw(0)
    support, query = (rows._replace(x=rows.x.astype(dtype)) for rows in (task.support, task.query))
    z = jitted(name)(theta, task._replace(support=support, query=query))
    want = jitted(name)(theta, task)
    np.testing.assert_allclose(z, want, rtol=0.1, atol=0.1 * np.abs(want).max())


def test_init_reads_shapes_alone_whatever_padding_holds(name, draw, theta, pad):
    padded = pad(draw(0), np.nan)
    again = LEARNERS[name].init(KEY, padded)
    jax.tree.map(np.testing.assert_array_equal, again, theta)


def test_adapt_cannot_see_the_query_set(name):
    parameters = inspect.signature(LEARNERS[name].adapt).parameters
    assert list(parameters) == ["theta", "support", "description", "key"]


def test_a_bad_support_set_is_refused_in_a_sentence(name, draw, theta):
    x, y, mask = draw(0).support
    poisoned = {"network": None, "log_scale": None}  # whoever touches theta fails otherwise
    poisoned = (
        transforms.FineTunedTheta(poisoned, None) if hasattr(theta, "optimiser") else poisoned
    )
    bad = {
        "inputs hold 1 values": Examples(x.at[0, 0].set(jnp.nan), y, mask),
        "mask is 0 in all": Examples(x, y, 0 * mask),
        "unequal numbers of rows": Examples(x, y[:-1], mask),
        "floating point": Examples(x.astype(int), y, mask),
    }
    if y.ndim == 1:
        bad[r"ways=3"] = Examples(x, y + 1, mask)
    for message, support in bad.items():
        with pytest.raises(ValueError, match=message):
            LEARNERS[name].adapt(poisoned, support)
