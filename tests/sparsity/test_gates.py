"""Gates: what they let through, what they learn from, and sparsemax."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import sparsity

RNG = np.random.default_rng(0)
KERNEL = jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32)
W = {"kernel": KERNEL, "bias": jnp.array([0.5, -0.02, 1.0]), "labels": jnp.arange(3), "none": None}
GATES = {
    "learned_threshold": sparsity.learned_threshold(0.3),
    "hard_concrete": sparsity.hard_concrete(0.6),
    "hard_concrete of inputs": sparsity.hard_concrete(0.6, shared=-1),
    "ranked": sparsity.score_top_k(0.4),
    "ranked of any share": sparsity.score_top_k(0.4, least=0.1),
}
NOISY = ["hard_concrete", "hard_concrete of inputs", "ranked of any share"]
KEY = jax.random.key(0)


def parameters_of(gate, seed=1):
    """Parameters that differ from each other."""
    leaves, structure = jax.tree.flatten(gate.init(W))
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    moved = [a + jax.random.normal(k, a.shape, a.dtype) for k, a in zip(keys, leaves, strict=True)]
    return structure.unflatten(moved)


@pytest.mark.parametrize("name", GATES)
def test_labels_and_structure_are_kept_and_noise_needs_a_key(name):
    gate = GATES[name]
    theta = parameters_of(gate)
    got, again = gate.apply(theta, W, None), gate.apply(theta, W, None)
    assert jax.tree.structure(got) == jax.tree.structure(W)
    np.testing.assert_array_equal(got["labels"], W["labels"])
    jax.tree.map(np.testing.assert_array_equal, got, again)
    drawn = [gate.apply(theta, W, key)["kernel"] for key in jax.random.split(KEY, 6)]
    same = all(np.array_equal(got["kernel"], each) for each in drawn)
    assert same == (name not in NOISY)


@pytest.mark.parametrize("name", GATES)
def test_gates_learn_and_let_gradients_through(name, x64):
    gate = GATES[name]
    w, theta = x64(W), x64(parameters_of(gate))

    @jax.jit
    def cost(theta, kernel):
        gated = gate.apply(theta, w | {"kernel": kernel}, None)
        return jnp.square(gated["kernel"] - 1.0).sum() + jnp.square(gated["bias"]).sum()

    grad = jax.grad(cost)(theta, w["kernel"])
    assert any(np.abs(leaf).sum() > 0 for leaf in jax.tree.leaves(grad))
    if name.startswith("ranked"):
        return  # the gradient of its scores is not a derivative
    leaves, structure = jax.tree.flatten(theta)
    for i, leaf in enumerate(leaves):
        index = (0,) * leaf.ndim
        beside = [
            structure.unflatten([*leaves[:i], leaf.at[index].add(move), *leaves[i + 1 :]])
            for move in (1e-6, -1e-6)
        ]
        want = (cost(beside[0], w["kernel"]) - cost(beside[1], w["kernel"])) / 2e-6
        np.testing.assert_allclose(jax.tree.leaves(grad)[i][index], want, rtol=1e-5, atol=1e-7)


def test_learned_threshold_is_soft_and_moves_at_its_rate():
    gate = sparsity.learned_threshold(0.3, rate=2.0)
    got = gate.apply(gate.init(W), W, None)
    np.testing.assert_allclose(got["kernel"], sparsity.soft_threshold(KERNEL, 0.3), atol=1e-7)
    moved = gate.init(W) | {"kernel": jnp.float32(0.5)}
    want = sparsity.soft_threshold(KERNEL, 0.3 * np.exp(1.0))
    np.testing.assert_allclose(gate.apply(moved, W, None)["kernel"], want, atol=1e-6)


def test_expected_l0_of_hard_concrete_is_its_monte_carlo_mean():
    gate = sparsity.hard_concrete(0.6)
    ones = {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}
    theta = parameters_of(gate)
    theta = {name: theta[name] for name in ones}
    keys = jax.random.split(KEY, 20_000)
    drawn = jax.jit(jax.vmap(lambda key: sparsity.nonzeros(gate.apply(theta, ones, key))))(keys)
    error = np.std(drawn) / len(keys) ** 0.5
    assert abs(np.mean(drawn) - sparsity.expected_l0(theta)) < 4 * error
    start = gate.init(ones)
    np.testing.assert_allclose(sparsity.expected_l0(start), 0.6 * 15, rtol=1e-5)
    assert all((leaf > 0).all() for leaf in jax.tree.leaves(jax.grad(sparsity.expected_l0)(start)))


def test_hard_concrete_shares_gates_and_is_shut_or_open_at_ends():
    gate = sparsity.hard_concrete(shared=-1)
    theta = gate.init(W)
    assert theta["kernel"].shape == (4, 1) and theta["bias"] is None
    ends = theta | {"kernel": jnp.array([[-9.0], [9.0], [-9.0], [9.0]])}
    got = gate.apply(ends, W, None)
    np.testing.assert_array_equal(got["kernel"][jnp.array([0, 2])], 0.0)
    np.testing.assert_array_equal(got["kernel"][jnp.array([1, 3])], KERNEL[jnp.array([1, 3])])
    np.testing.assert_array_equal(got["bias"], W["bias"])


def test_score_top_k_keeps_the_highest_and_all_scores_learn():
    gate = sparsity.score_top_k(0.25)
    w = {"a": jnp.arange(1.0, 5.0), "b": jnp.arange(5.0, 9.0)}
    np.testing.assert_array_equal(gate.apply(gate.init(w), w, None)["a"], w["a"])  # all tie
    scores = {"a": jnp.array([-5.0, 0.3, -2.0, 0.1]), "b": jnp.array([0.2, -9.0, -1.0, 0.0])}
    got = gate.apply(scores, w, None)
    np.testing.assert_array_equal(got["a"], [0.0, 2.0, 0.0, 0.0])
    np.testing.assert_array_equal(got["b"], [5.0, 0.0, 0.0, 0.0])
    grad = jax.grad(lambda s: sum(leaf.sum() for leaf in gate.apply(s, w, None).values()))(scores)
    jax.tree.map(np.testing.assert_array_equal, grad, w)


def test_straight_through_has_the_values_and_every_gradient():
    prox = sparsity.straight_through(sparsity.top_k(0.5))
    start = jnp.array([0.1, -2.0, 3.0, -0.2])
    np.testing.assert_array_equal(prox(start), sparsity.top_k(0.5)(start))
    grad = jax.grad(lambda w: (prox(w, 1.0) * jnp.arange(1.0, 5.0)).sum())(start)
    np.testing.assert_array_equal(grad, [1.0, 2.0, 3.0, 4.0])


def test_only_what_is_selected_is_gated():
    gate = sparsity.masked(
        sparsity.score_top_k(0.5), lambda w: dict.fromkeys(w, False) | {"kernel": True}
    )
    theta = gate.init(W)
    assert theta["bias"] is None and theta["kernel"].shape == KERNEL.shape
    scores = theta | {"kernel": jnp.arange(12.0).reshape(4, 3) - 6.0}
    got = gate.apply(scores, W, None)
    np.testing.assert_array_equal(got["kernel"], KERNEL.at[:2].set(0.0))
    np.testing.assert_array_equal(got["bias"], W["bias"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sparsity.learned_threshold(0.0), "start and rate above zero"),
        (lambda: sparsity.hard_concrete(1.0), "open share in"),
        (lambda: sparsity.score_top_k(0.0), "share of the entries"),
        (lambda: sparsity.score_top_k(0.5, least=1.0), "0 < least < 1, got 1.0"),
    ],
)
def test_bad_settings_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Sparsemax.

SCORES = [RNG.normal(size=5) * scale for scale in (0.05, 0.5, 3.0)]


def brute_sparsemax(scores):
    """The nearest point of the simplex, by trying every face of it."""
    best = None
    for size in range(1, len(scores) + 1):
        for face in map(list, itertools.combinations(range(len(scores)), size)):
            point = np.zeros(len(scores))
            point[face] = scores[face] - (scores[face].sum() - 1.0) / size
            distance = np.square(point - scores).sum()
            if (point >= 0).all() and (best is None or distance < best[0]):
                best = (distance, point)
    return best[1]


@pytest.mark.parametrize("scores", SCORES)
def test_sparsemax_is_the_nearest_point_of_the_simplex(scores, x64):
    got = sparsity.sparsemax(jnp.asarray(scores))
    np.testing.assert_allclose(got, brute_sparsemax(scores), atol=1e-12)
    np.testing.assert_allclose(got.sum(), 1.0)


@pytest.mark.parametrize("scores", SCORES)
def test_the_derivative_of_sparsemax_is_its_finite_difference(scores, x64):
    got = jax.jacobian(sparsity.sparsemax)(jnp.asarray(scores))
    moves = np.eye(5) * 1e-6
    want = [(brute_sparsemax(scores + m) - brute_sparsemax(scores - m)) / 2e-6 for m in moves]
    np.testing.assert_allclose(got, np.stack(want, axis=-1), atol=1e-8)


def test_sparsemax_of_rows_of_ties_and_of_what_is_absent():
    rows = jnp.array([[1.0, 1.0, 1.0], [3.0, 0.0, 0.0], [0.2, 0.1, -1e30]])
    want = [[1 / 3] * 3, [1.0, 0.0, 0.0], [0.55, 0.45, 0.0]]
    np.testing.assert_allclose(jax.jit(sparsity.sparsemax)(rows), want, rtol=1e-6)
    first = jax.jit(jax.grad(lambda z: sparsity.sparsemax(z)[:, 0].sum()))
    assert np.isfinite(first(rows)).all()


def test_sparsemax_of_halves_has_values_and_a_derivative():
    scores = jnp.array([1.0, 0.5, -2.0], jnp.bfloat16)
    got, slopes = jax.jit(lambda z: (sparsity.sparsemax(z), jax.jacobian(sparsity.sparsemax)(z)))(
        scores
    )
    assert got.dtype == slopes.dtype == jnp.bfloat16
    np.testing.assert_array_equal(got, np.array([0.75, 0.25, 0.0], got.dtype))
    want = np.array([[0.5, -0.5, 0.0], [-0.5, 0.5, 0.0], [0.0, 0.0, 0.0]], got.dtype)
    np.testing.assert_array_equal(slopes, want)
