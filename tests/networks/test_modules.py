"""Networks of flax: what is no parameter is not trained, and noise."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import (
    Examples,
    Task,
    checkpoint,
    evaluate,
    learners,
    losses,
    make_step,
    meta_objective,
    networks,
    sparsity,
    training,
    transforms,
)
from tests.modules import FLAX, NOISY, Linen, LinenSwitch

KEY = jax.random.key(0)
WAYS = 3


LEARNERS = {
    "prototypes": lambda net: learners.prototypes(net, ways=WAYS),
    "matching": lambda net: learners.matching(net, ways=WAYS),
    "ridge": lambda net: learners.ridge(net, ways=WAYS),
    "hypernet": lambda net: learners.hypernet(net, out_size=WAYS, hidden=(), context_size=4),
    "relation": lambda net: learners.relation(net, hidden=(4,), ways=WAYS),
    "in context": lambda net: learners.in_context(net, size=8, num_heads=2, ways=WAYS),
    "maml": lambda net: learners.maml(net, ways=WAYS, num_steps=2),
    "meta_sgd": lambda net: learners.meta_sgd(net, ways=WAYS, num_steps=2),
    "maml mixed": lambda net: learners.maml(net, ways=WAYS, num_steps=2, differentiate="mixed"),
    "imaml": lambda net: learners.imaml(net, ways=WAYS, num_steps=3),
    "evolved": lambda net: learners.maml(net, ways=WAYS, num_steps=1, differentiate="evolution"),
    "cavia": lambda net: learners.cavia(net, ways=WAYS, num_steps=2, context_size=3),
}


# All learners on two networks, and two learners on the others.
PAIRS = [("linen", name) for name in LEARNERS] + [("nnx", name) for name in LEARNERS]
PAIRS += [(name, each) for name in list(FLAX)[1:] if name != "nnx" for each in ("ridge", "maml")]
NOISY_PAIRS = [pair for pair in PAIRS if pair[0] in NOISY and pair[1] != "imaml"]


def constants(tree):
    """The leaves of a tree that no optimiser may move."""
    found = []

    def look(node):
        if isinstance(node, networks.Variables):
            for name, entry in sorted(node.items()):
                found.extend(jax.tree.leaves(entry)) if name in node.constants else look(entry)
        elif isinstance(node, dict):
            for _, entry in sorted(node.items()):
                look(entry)
        elif isinstance(node, list | tuple):
            for entry in node:
                look(entry)

    look(tree)
    return [
        jax.random.key_data(c) if jnp.issubdtype(c.dtype, jax.dtypes.prng_key) else c for c in found
    ]


def batch_of(task):
    return jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), task)


@pytest.mark.slow
@pytest.mark.parametrize(("network", "learner"), PAIRS)
def test_constants_stay_as_they_were_inside_and_outside(network, learner, task):
    learner = LEARNERS[learner](FLAX[network])
    tx = optax.adamw(0.05, weight_decay=1.0)
    state = training.init(learner, tx, KEY, task)
    before = constants(state.theta)
    step = jax.jit(
        make_step(meta_objective(learner, losses.cross_entropy, sparsity.l1, eta=1e-3), tx)
    )
    for _ in range(2):
        state, metrics = step(state, batch_of(task))
    assert np.isfinite(metrics["loss"]) and (before or "switch" in network)
    jax.tree.map(np.testing.assert_array_equal, constants(state.theta), before)
    w = learner.adapt(state.theta, task.support, key=KEY)
    if hasattr(w, "body"):
        jax.tree.map(np.testing.assert_array_equal, constants(w.body), before)
    evaluate(learner, state.theta, batch_of(task))


def test_sparsity_neither_prunes_nor_counts_constants(task):
    learner = learners.maml(Linen(), ways=WAYS, num_steps=1)
    theta = learner.init(KEY, task)
    w = learner.adapt(theta, task.support)
    assert sparsity.size(w) == sum(
        leaf.size for leaf in jax.tree.leaves((w.body["params"], w.head))
    )
    sparse = transforms.sparsify(learner, sparsity.top_k(0.1)).adapt(theta, task.support)
    jax.tree.map(np.testing.assert_array_equal, constants(sparse.body), constants(w.body))
    tuned = transforms.sparsify(learner, sparsity.learned_threshold())
    gates = tuned.init(KEY, task).gate
    assert len(jax.tree.leaves(gates)) == len(jax.tree.leaves((w.body["params"], w.head)))


def test_constants_are_saved_and_restored(tmp_path, task):
    learner = LEARNERS["prototypes"](FLAX["nnx"])
    state = training.init(learner, optax.adam(0.1), KEY, task)
    checkpoint.save(tmp_path / "state", state, {})
    other = training.init(learner, optax.adam(0.1), jax.random.key(1), task)
    restored = checkpoint.restore(tmp_path / "state", other)
    assert isinstance(restored.theta["network"]["norm"], networks.Variables)
    jax.tree.map(np.testing.assert_array_equal, constants(restored.theta), constants(state.theta))


# Noise


@pytest.mark.parametrize(("network", "learner"), NOISY_PAIRS)
def test_a_key_draws_noise_and_none_is_deterministic(network, learner, task):
    learner = LEARNERS[learner](NOISY[network])
    theta = learner.init(KEY, task)
    adapt = jax.jit(learner.adapt)
    one, same, other, none, again = (
        adapt(theta, task.support, key=key) for key in (KEY, KEY, jax.random.key(1), None, None)
    )

    def flat(w):
        leaves = [leaf for leaf in jax.tree.leaves(w) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        return np.concatenate([np.ravel(leaf) for leaf in leaves])

    np.testing.assert_array_equal(flat(one), flat(same))
    np.testing.assert_array_equal(flat(none), flat(again))
    assert not np.array_equal(flat(one), flat(other))
    z = learner.predict(theta, none, task.query.x)
    np.testing.assert_array_equal(z, learner.predict(theta, none, task.query.x))


def test_an_implicit_gradient_is_of_a_descent_without_noise(task):
    """The fixed point of a descent needs a fixed objective."""
    learner = LEARNERS["imaml"](Linen())
    theta = learner.init(KEY, task)
    one, none = (learner.adapt(theta, task.support, key=key) for key in (KEY, None))
    jax.tree.map(np.testing.assert_array_equal, one.head, none.head)


def test_dropout_in_the_inner_loop_is_what_a_loop_by_hand_does(task, x64):
    network = LinenSwitch()
    learner = learners.maml(network, ways=WAYS, num_steps=1, rate=0.1)
    theta, task = x64((learner.init(KEY, task), task))

    def expected_head(mean_over):
        heads = [learner.adapt(theta, task.support, key=key).head["kernel"] for key in mean_over]
        return np.std(np.stack(heads), axis=0)

    spread = expected_head(jax.random.split(KEY, 8))
    assert spread.max() > 1e-3
    loss = meta_objective(learner, losses.cross_entropy)

    def at(shift):
        moved = jax.tree.map(lambda leaf: leaf + shift, theta)
        return loss(moved, task, KEY)[0]

    gradient = jax.grad(lambda theta: loss(theta, task, KEY)[0])(theta)
    slope = sum(leaf.sum() for leaf in jax.tree.leaves(gradient))
    np.testing.assert_allclose(slope, (at(1e-6) - at(-1e-6)) / 2e-6, rtol=1e-5)


def test_an_embedding_of_token_ids_is_a_network(task):
    class Text(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            return nn.Embed(20, 8)(tokens).mean(axis=1)

    tokens = jax.random.randint(KEY, (6, 5), 0, 20)
    # Padding may hold ids that there are none of.
    support = Examples(tokens.at[5].set(-7), task.support.y, task.support.mask.at[5].set(0.0))
    given = Task(support, Examples(tokens, task.support.y, jnp.ones(6)))
    for build in LEARNERS.values():
        learner = build(networks.mixed_precision(Text(), jnp.bfloat16))
        theta = learner.init(KEY, given)
        tx = optax.sgd(0.1)
        step = make_step(meta_objective(learner, losses.cross_entropy), tx)
        state = training.init(learner, tx, KEY, given)
        _, metrics = jax.jit(step)(state, batch_of(given))
        assert np.isfinite(metrics["loss"])
        assert np.isfinite(evaluate(learner, theta, batch_of(given)).mean)
    with pytest.raises(ValueError, match="scale and cast"):
        learners.nearest_neighbour().adapt({}, given.support)
    for network in (networks.identity(), networks.mlp([3])):
        with pytest.raises(ValueError, match="scale and cast"):
            learners.prototypes(network, ways=WAYS).adapt({}, given.support)
