"""Gates that learn, a `w` of any size, sparse adaptation, and a density that is held."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import (
    evaluate,
    learners,
    losses,
    make_step,
    meta_objective,
    networks,
    scan_steps,
    sparsity,
    training,
)
from jaxmeta import tasks as families
from jaxmeta.inner import learned_rates, masked_updates
from jaxmeta.sparsity import TargetDensity, WithMultiplier
from jaxmeta.transforms import GatedTheta, nested_sparsity, sparsify, with_multiplier
from tests.transforms.dense import DENSE, numbers


def test_a_gate_that_learns_is_trained_in_theta(task):
    dense = DENSE["prototypes"]
    sparse = sparsify(dense, sparsity.hard_concrete(0.5, shared=-1))
    theta = sparse.init(jax.random.key(0), task)
    assert isinstance(theta, GatedTheta)
    jax.tree.map(np.testing.assert_array_equal, theta.learner, dense.init(jax.random.key(0), task))
    w, again = (sparse.adapt(theta, task.support) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, w, again)
    drawn = sparse.adapt(theta, task.support, key=jax.random.key(1))
    assert not np.array_equal(numbers(drawn), numbers(w))
    objective = meta_objective(
        sparse,
        losses.cross_entropy,
        eta=0.1,
        theta_penalty=lambda theta: sparsity.expected_l0(theta.gate),
    )
    grad, metrics = jax.grad(objective, has_aux=True)(theta, task, jax.random.key(2))
    open_gates = sparsity.expected_l0(theta.gate)
    np.testing.assert_allclose(metrics["penalty"], open_gates, rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], metrics["task_loss"] + 0.1 * open_gates, rtol=1e-6)
    assert all(np.abs(leaf).sum() > 0 for leaf in jax.tree.leaves(grad.gate))


@pytest.mark.parametrize("share", [0.2, 0.7])
def test_any_size_keeps_the_share_told_or_draws_one_by_key(share, task):
    learner = nested_sparsity(DENSE["prototypes"], share, least=0.1)
    theta = learner.init(jax.random.key(0), task)
    want = sparsify(DENSE["prototypes"], sparsity.top_k(share)).adapt(theta, task.support)
    jax.tree.map(np.testing.assert_array_equal, learner.adapt(theta, task.support), want)
    adapt = jax.jit(lambda key: learner.adapt(theta, task.support, key=key))
    sizes = [int(sparsity.nonzeros(adapt(key))) for key in jax.random.split(jax.random.key(1), 40)]
    assert min(sizes) >= 0.1 * 24 - 1 and len(set(sizes)) > 5
    # The logarithm is uniform: half of the shares are below the root of the least.
    assert 10 <= sum(size <= 0.1**0.5 * 24 for size in sizes) <= 30


def test_a_meta_net_that_reads_descriptions_is_told_the_share(task):
    hypernet = learners.hypernet(
        networks.identity(), out_size=3, hidden=(), context_size=4, source="both"
    )
    told = task._replace(description=jnp.ones(2))
    for each in (task, told):
        small, large = (nested_sparsity(hypernet, share, least=0.1) for share in (0.3, 0.9))
        theta = small.init(jax.random.key(0), each)
        ws = [
            one.adapt(theta, each.support, description=each.description) for one in (small, large)
        ]
        kept = numbers(ws[0]) != 0
        assert not np.array_equal(numbers(ws[0])[kept], numbers(ws[1])[kept])


def test_one_program_serves_every_size(task, count_traces):
    theta = nested_sparsity(DENSE["prototypes"], 1.0, least=0.1).init(jax.random.key(0), task)

    def adapt(share):
        return nested_sparsity(DENSE["prototypes"], share, least=0.1).adapt(theta, task.support)

    jitted, traces = count_traces(adapt)
    for share in (0.2, 0.5):
        np.testing.assert_allclose(numbers(jitted(share)), numbers(adapt(share)), rtol=1e-6)
    assert len(traces) == 1


def test_any_size_refuses_what_no_share_can_be():
    with pytest.raises(ValueError, match="0 < least < 1, got 1.5"):
        nested_sparsity(DENSE["matching"], 0.5, least=1.5)
    with pytest.raises(ValueError, match="share of the entries"):
        nested_sparsity(DENSE["matching"], 0.0, least=0.5)


@pytest.mark.slow
def test_gated_updates_move_only_what_the_gate_lets_through(task):
    gate = sparsity.masked(
        sparsity.score_top_k(0.25), lambda w: w._replace(body=True, head=False, present=False)
    )
    network = networks.mlp([8])
    tx = masked_updates(optax.sgd(0.3), gate)
    start = learners.learned_init(network, ways=3)
    learner = learners.maml(network, tx=tx, num_steps=3, ways=3)
    theta = learner.init(jax.random.key(0), task)
    scores = jax.tree.map(lambda s: jax.random.normal(jax.random.key(1), s.shape), theta.optimiser)
    theta = theta._replace(optimiser=scores)
    w, first = learner.adapt(theta, task.support), start.adapt(theta.learner, task.support)
    moved = jax.tree.map(lambda a, b: np.asarray(a != b), w.body, first.body)
    ranking = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(scores.gate)])
    want = jax.tree.map(lambda s: s >= np.sort(ranking)[-10], scores.gate.body)  # of 40
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a & ~b, False), moved, want)
    assert 0 < sum(leaf.sum() for leaf in jax.tree.leaves(moved)) <= 10
    assert (w.head["kernel"] != first.head["kernel"]).all()
    grad, _ = jax.grad(meta_objective(learner, losses.cross_entropy), has_aux=True)(
        theta, task, None
    )
    assert np.isfinite(ranking).all() and np.abs(grad.optimiser.gate.body[0]["kernel"]).sum() > 0


def test_a_gated_optimiser_that_learns_keeps_its_rates(task):
    tx = masked_updates(learned_rates(0.3), sparsity.hard_concrete(0.5))
    learner = learners.maml(networks.mlp([4]), tx=tx, num_steps=2, ways=3)
    theta = learner.init(jax.random.key(0), task)
    assert all(
        (leaf == np.float32(0.3)).all() for leaf in jax.tree.leaves(theta.optimiser.optimiser)
    )
    quiet, drawn = (learner.adapt(theta, task.support, key=k) for k in (None, jax.random.key(1)))
    assert not np.array_equal(numbers(quiet), numbers(drawn))


def test_the_multiplier_climbs_above_the_density_and_falls_below(task):
    dense = with_multiplier(DENSE["prototypes"])
    theta = dense.init(jax.random.key(0), task)
    assert isinstance(theta, WithMultiplier)
    pruned = with_multiplier(sparsify(DENSE["prototypes"], sparsity.top_k(0.25)))
    for learner, sign in ((dense, 1), (pruned, -1)):
        target = 0.5
        objective = meta_objective(
            learner,
            losses.cross_entropy,
            sparsity.l1,
            eta=TargetDensity(target, start=0.1, rate=5.0),
        )
        moved = theta._replace(log_multiplier=jnp.float32(0.2))
        grad, metrics = jax.grad(objective, has_aux=True)(moved, task, None)
        density = float(metrics["density"])
        np.testing.assert_allclose(metrics["eta"], 0.1 * np.exp(1.0), rtol=1e-5)
        np.testing.assert_allclose(grad.log_multiplier, -(density / target - 1), rtol=1e-4)
        assert np.sign(-grad.log_multiplier) == sign  # descent goes up
        want = metrics["task_loss"] + metrics["eta"] * metrics["penalty"]
        np.testing.assert_allclose(metrics["loss"], want, rtol=1e-6)


@pytest.mark.slow
def test_a_target_density_is_held_on_unseen_tasks():
    sampler = families.two_tasks(shots=20, queries=20, features=8)
    hypernet = learners.hypernet(networks.identity(), out_size=2, hidden=(), context_size=16)
    target = TargetDensity(0.4, start=0.1, rate=2.0)
    learner = sparsify(hypernet, sparsity.relative(sparsity.soft_threshold), step=target)
    loss_fn = meta_objective(learner, losses.cross_entropy, eta=target)
    tx = optax.adamw(optax.cosine_decay_schedule(2e-2, 200), weight_decay=0.05)
    state = training.init(learner, tx, jax.random.key(0), sampler(jax.random.key(0)))
    run = jax.jit(scan_steps(make_step(loss_fn, tx), sampler, num_steps=200, tasks_per_step=4))
    state, metrics = run(state)
    result = evaluate(learner, state.theta, sampler, key=jax.random.key(5), num_tasks=200)
    assert metrics["density"][0] > 0.8
    assert abs(result.density / 0.4 - 1) < 0.1
    assert result.mean > 0.8


def test_a_target_density_says_what_it_lacks(task):
    plain = DENSE["prototypes"]
    objective = meta_objective(plain, losses.cross_entropy, sparsity.l1, eta=TargetDensity(0.5))
    with pytest.raises(ValueError, match="with_multiplier"):
        objective(plain.init(jax.random.key(0), task), task, None)
    for bad in (TargetDensity(1.5), TargetDensity(0.5, start=0.0), TargetDensity(0.5, rate=-1.0)):
        with pytest.raises(ValueError, match="TargetDensity needs"):
            meta_objective(with_multiplier(plain), losses.cross_entropy, eta=bad)
        with pytest.raises(ValueError, match="TargetDensity needs"):
            sparsify(plain, sparsity.soft_threshold, step=bad)
