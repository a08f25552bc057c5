"""A row alone is the row in its batch: over networks, our own and those of flax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import Examples, Task, learners, networks
from tests.modules import FLAX

KEY, WAYS = jax.random.key(0), 3
IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(6, 16, 16, 1)), jnp.float32)
FLAT = IMAGES[:, :2, :2, 0].reshape(6, 4)
OURS = {
    "identity": networks.identity(),
    "mlp": networks.mlp([5]),
    "conv4": networks.conv4(3),
    "residual": networks.residual(2),
    "conv4 batch": networks.conv4(3, norm="batch"),
    "residual batch": networks.residual(2, norm="batch"),
    "chain of batch": networks.chain(networks.conv4(3, norm="batch"), networks.rms_norm()),
    "chain of chains": networks.chain(
        networks.chain(networks.conv4(3, norm="batch")), networks.mlp([4])
    ),
    "half of chain of batch": networks.mixed_precision(
        networks.chain(networks.conv4(3, norm="batch"), networks.mlp([4])), jnp.bfloat16
    ),
    "chain of half": networks.chain(
        networks.mixed_precision(networks.conv4(3, norm="batch"), jnp.float16), networks.rms_norm()
    ),
}
LATER = ["fomaml", "anil"]  # as maml but for the derivative and the part that moves
ALL = {name: (net, IMAGES) for name, net in OURS.items()} | {
    name: (net, FLAT) for name, net in FLAX.items()
}


@pytest.mark.parametrize(
    "learner",
    ["prototypes", "maml", *(pytest.param(name, marks=pytest.mark.slow) for name in LATER)],
)
@pytest.mark.parametrize("name", ALL)
def test_a_row_alone_is_the_row_in_its_batch(name, learner):
    network, x = ALL[name]
    build = getattr(learners, learner)
    support = Examples(x, jnp.arange(6) % WAYS, jnp.ones(6))
    if learner == "prototypes" and getattr(network, "with_statistics", None) is not None:
        with pytest.raises(ValueError, match="networks.transductive"):
            build(network, ways=WAYS)
        return
    options = {} if learner == "prototypes" else {"num_steps": 1}
    learner = build(network, ways=WAYS, **options)
    theta = learner.init(KEY, Task(support, support))
    w = jax.jit(learner.adapt)(theta, support)
    predict = jax.jit(learner.predict)
    others = 5.0 * x + 3.0
    together = predict(theta, w, jnp.concatenate([x[:1], others]))[0]
    np.testing.assert_allclose(predict(theta, w, x[:1])[0], together, rtol=2e-2, atol=2e-2)
    assert np.abs(together).max() > 0


def test_transductive_is_by_name(image_task):
    network = networks.transductive(OURS["conv4 batch"])
    learner = learners.prototypes(network, ways=WAYS)
    theta = learner.init(KEY, image_task)
    w = learner.adapt(theta, image_task.support)
    alone = learner.predict(theta, w, image_task.query.x[:1])[0]
    assert not np.allclose(alone, learner.predict(theta, w, image_task.query.x)[0], atol=1e-3)
