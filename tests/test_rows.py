"""No rows, and a number of rows that is known later: for every network, learner and file."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import Examples, Task, export, learners, networks
from tests.zoo import LEARNERS, draw_sinusoid

KEY = jax.random.key(0)
IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(3, 32, 32, 2)), jnp.float32)
NETWORKS = {
    "identity": networks.identity(),
    "mlp": networks.mlp([5, 4]),
    "conv4": networks.conv4(4),
    "conv4 batch": networks.conv4(4, norm="batch"),
    "residual": networks.residual(2),
    "chain": networks.chain(networks.conv4(4), networks.rms_norm(), networks.mlp([3])),
    "half": networks.mixed_precision(networks.conv4(4), jnp.bfloat16),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_embeds_no_rows(name):
    network = NETWORKS[name]
    params = network.init(KEY, IMAGES)
    want = jax.eval_shape(network.apply, params, IMAGES)
    got = network.apply(params, IMAGES[:0])
    assert got.shape == (0, want.shape[1]) and got.dtype == want.dtype


@pytest.fixture(params=LEARNERS)
def adapted(request, make_task):
    return adapted_to(request.param, make_task)


@functools.cache
def adapted_to(name, make_task):
    task = draw_sinusoid(0) if "regression" in name else make_task(0)
    learner = LEARNERS[name]
    theta = learner.init(KEY, task)
    w = jax.jit(learner.adapt)(theta, task.support, description=task.description)
    return learner, theta, w, task.query.x


@pytest.mark.parametrize("compiled", [False, True])
def test_a_learner_predicts_no_rows(adapted, compiled):
    learner, theta, w, x = adapted
    predict = jax.jit(learner.predict) if compiled else learner.predict
    assert predict(theta, w, x[:0]).shape == (0, predict(theta, w, x).shape[1])


def test_stablehlo_of_a_learner_takes_any_number_of_rows(adapted):
    learner, theta, w, x = adapted
    program = export.stablehlo(lambda x: learner.predict(theta, w, x), x.shape[1:])
    call = jax.export.deserialize(bytearray(program)).call
    want = learner.predict(theta, w, x)
    for count in (len(x), 1):
        np.testing.assert_allclose(call(x[:count]), want[:count], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_stablehlo_of_images_takes_any_number_of_rows(name):
    learner = learners.maml(NETWORKS[name], ways=3, num_steps=1)
    support = Examples(IMAGES, jnp.arange(3), jnp.ones(3))
    theta = learner.init(KEY, Task(support, support))
    w = jax.jit(learner.adapt)(theta, support)
    program = export.stablehlo(
        lambda x: learner.predict(theta, w, x), IMAGES.shape[1:], platforms=("cpu",)
    )
    call = jax.export.deserialize(bytearray(program)).call
    want = learner.predict(theta, w, IMAGES)
    for count in (3, 1):
        np.testing.assert_allclose(call(IMAGES[:count]), want[:count], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("build", [learners.prototypes, learners.matching, learners.ridge])
def test_an_exported_file_predicts_no_rows_and_refuses_others(build):
    learner = build(networks.identity(), ways=4)
    support = Examples(jnp.eye(3), jnp.arange(3), jnp.ones(3))
    theta = learner.init(KEY, Task(support, support))
    w = learner.adapt(theta, support)
    for small in (
        export.perceptron(theta, w),
        export.prune_dead_units(export.perceptron(theta, w)),
    ):
        predict = export.load(export.numpy_source(small))
        assert predict(np.zeros((0, 3), np.float32)).shape == (0, 4)
        for x in (np.zeros((2, 4), np.float32), np.zeros(3, np.float32)):
            with pytest.raises(ValueError, match=r"rows x \[N, 3\]"):
                predict(x)
