"""`sparsify`: exact zeros that are part of the function, and a theta that serves both learners."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import losses, meta_objective, sparsity
from jaxmeta.transforms import sparsify
from tests.transforms.dense import DENSE, numbers

SHARE = 0.4


@pytest.fixture(params=DENSE)
def dense(request):
    return DENSE[request.param]


@pytest.mark.parametrize("per", ["all", "row"])
def test_top_k_leaves_exact_zeros_and_no_more_than_the_share(dense, per, task):
    theta = dense.init(jax.random.key(0), task)
    sparse = sparsify(dense, sparsity.top_k(SHARE, per=per))
    before, after = (numbers(one.adapt(theta, task.support)) for one in (dense, sparse))
    assert 0.0 < sparsity.density(after) <= SHARE
    np.testing.assert_array_equal(after[after != 0.0], before[after != 0.0])
    if per == "all":
        assert np.abs(after[after != 0.0]).min() > np.abs(before[after == 0.0]).max()


def test_soft_threshold_uses_the_step_of_the_transform(task):
    dense = DENSE["prototypes"]
    theta = dense.init(jax.random.key(0), task)
    sparse = sparsify(dense, sparsity.soft_threshold, step=0.5)
    before, after = (numbers(one.adapt(theta, task.support)) for one in (dense, sparse))
    np.testing.assert_allclose(after, np.sign(before) * np.maximum(np.abs(before) - 0.5, 0.0))
    assert 0 < np.count_nonzero(after) < len(before)


def test_theta_is_the_dense_learners_and_labels_are_left_alone(dense, task):
    sparse = sparsify(dense, sparsity.top_k(SHARE))
    one, two = (learner.init(jax.random.key(3), task) for learner in (dense, sparse))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    before, after = (learner.adapt(one, task.support) for learner in (dense, sparse))
    np.testing.assert_array_equal(before[-1], after[-1])  # members or present, booleans
    assert sparse.predict is dense.predict


@pytest.mark.parametrize("prox", [sparsity.top_k(0.5), sparsity.soft_threshold])
def test_gradient_flows_through_the_survivors_alone(prox):
    start = jnp.array([0.1, -2.0, 3.0, -0.2])
    dense = DENSE["prototypes"]._replace(
        adapt=lambda theta, support, *, description=None, key=None: theta
    )
    sparse = sparsify(dense, prox, step=0.5)
    grad = jax.grad(lambda theta: (sparse.adapt(theta, None) * jnp.arange(1.0, 5.0)).sum())(start)
    np.testing.assert_array_equal(grad, [0.0, 2.0, 3.0, 0.0])


def test_gradient_in_theta_is_the_one_of_the_masked_learner(dense, task):
    """Where the ranking does not change, sparsify is a multiplication by a constant mask."""
    theta = dense.init(jax.random.key(0), task)
    sparse = sparsify(dense, sparsity.top_k(SHARE))
    kept = jax.tree.map(lambda leaf: leaf.astype(bool), sparse.adapt(theta, task.support))

    def mask(w, step):
        return jax.tree.map(lambda leaf, keep: jnp.where(keep, leaf, jnp.zeros_like(leaf)), w, kept)

    got, want = (
        jax.jit(jax.grad(meta_objective(learner, losses.cross_entropy), has_aux=True))(
            theta, task, None
        )[0]
        for learner in (sparse, sparsify(dense, mask))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), got, want)
    assert sum(np.abs(leaf).sum() for leaf in jax.tree.leaves(got)) > 0.0


def test_each_task_of_a_batch_is_pruned_by_its_own_ranking(dense, make_task):
    tasks = [make_task(seed) for seed in range(3)]
    sparse = sparsify(dense, sparsity.top_k(SHARE))
    theta = dense.init(jax.random.key(0), tasks[0])
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(task.support for task in tasks))
    together = jax.jit(jax.vmap(sparse.adapt, in_axes=(None, 0)))(theta, batch)
    for i, task in enumerate(tasks):
        alone = sparse.adapt(theta, task.support)
        got = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        np.testing.assert_allclose(numbers(got), numbers(alone), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(numbers(got) == 0.0, numbers(alone) == 0.0)


def test_a_step_for_a_gate_that_reads_none_is_refused():
    with pytest.raises(ValueError, match="reads none, got step=0.5"):
        sparsify(DENSE["matching"], sparsity.score_top_k(0.5), step=0.5)


def test_a_negative_step_is_refused():
    for step in (-1.0, float("nan")):
        with pytest.raises(ValueError, match=f"step of zero or more, got {step}"):
            sparsify(DENSE["matching"], sparsity.soft_threshold, step=step)
