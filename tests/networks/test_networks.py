"""Networks: their arithmetic against NumPy and lax, and other libraries' modules as networks."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxmeta import learners, losses, meta_objective, networks
from jaxmeta.networks import _blocks
from tests import references

KEY = jax.random.key(0)
ENCODERS = {"conv4": (networks.conv4(4), 4), "residual": (networks.residual(2), 8)}


@pytest.fixture(params=ENCODERS)
def encoder(request):
    return ENCODERS[request.param]


@pytest.fixture
def images():
    return jax.random.normal(KEY, (5, 16, 16, 1))


def embed(network, images):
    return jax.jit(network.apply)(network.init(KEY, images), images)


def test_an_embedding_does_not_depend_on_the_other_images(encoder, images):
    network, _ = encoder
    params = network.init(KEY, images)
    apply = jax.jit(network.apply)
    others = images.at[1:].set(100.0 * images[1:] + 7.0)
    np.testing.assert_allclose(
        apply(params, images)[0], apply(params, others)[0], rtol=1e-5, atol=1e-5
    )
    assert not np.allclose(apply(params, images)[1], apply(params, others)[1])


def test_an_embedding_ignores_brightness_and_contrast(encoder, images):
    """A property of layer norm behind a convolution without bias, up to the border and epsilon."""
    network, _ = encoder
    params = network.init(KEY, images)
    apply = jax.jit(network.apply)
    np.testing.assert_allclose(
        apply(params, images), apply(params, 3.0 * images), rtol=1e-2, atol=1e-2
    )
    assert not np.allclose(apply(params, images), apply(params, images[:, ::-1]), atol=0.1)


@pytest.mark.parametrize(
    ("network", "size", "features"),
    [(networks.conv4(4), 28, 4), (networks.conv4(4), 32, 16), (networks.residual(2), 28, 72)],
)
def test_features_are_as_many_as_said_and_differ_by_image(network, size, features):
    z = np.asarray(embed(network, jax.random.normal(KEY, (6, size, size, 1))))
    assert z.shape == (6, features)
    distances = np.linalg.norm(z[:, None] - z[None], axis=-1)
    assert distances[~np.eye(6, dtype=bool)].min() > 1e-3


def test_images_too_small_for_the_poolings_are_refused():
    # Four poolings of 8x8 leave no pixel: [N, 0] features, on which every learner is at chance.
    network = networks.conv4(4)
    with pytest.raises(ValueError):
        jax.eval_shape(lambda x: network.apply(network.init(KEY, x), x), jnp.ones((2, 8, 8, 1)))


def test_images_without_channels_are_refused(encoder):
    network, _ = encoder
    params = network.init(KEY, jnp.ones((2, 16, 16, 1)))
    with pytest.raises(ValueError, match=r"\[N, H, W, C\]"):
        network.apply(params, jnp.ones((2, 16, 16)))


def test_bfloat16_images_give_nearly_the_float32_embedding(encoder, images):
    network, _ = encoder
    want, got = embed(network, images), embed(network, images.astype(jnp.bfloat16))
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(got.astype(np.float32), want, atol=0.1 * np.abs(want).max())


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_in_precision_computes_in_half_and_answers_in_full(images, norm):
    whole = networks.conv4(4, norm=norm)
    half = networks.mixed_precision(whole, jnp.bfloat16)
    params = half.init(KEY, images)
    text = str(jax.make_jaxpr(half.apply)(params, images))
    assert "bf16[1,5,16,16,4] = task_conv" in text
    want, got = whole.apply(params, images), half.apply(params, images)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, atol=0.1 * np.abs(want).max())
    grad = jax.grad(lambda params: half.apply(params, images).sum())(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(grad)} == {jnp.dtype(jnp.float32)}


def test_in_precision_fixes_statistics_and_nothing_else_of_w(images):
    network = networks.mixed_precision(networks.conv4(4, norm="batch"), jnp.bfloat16)
    params = network.init(KEY, images)
    features, known = network.with_statistics(params, images, jnp.ones(len(images)))
    jax.tree.map(np.testing.assert_array_equal, network.without_statistics(known), params)
    assert features.dtype == known[0]["mean"].dtype == jnp.float32
    np.testing.assert_allclose(network.apply(known, images), features, rtol=0.05, atol=0.05)


HALF = {  # on features of half precision, which the convolutional encoders give
    "matching": learners.matching(networks.identity(), ways=3),
    "matching full context": learners.matching(networks.identity(), full_context=True, ways=3),
    "prototypes": learners.prototypes(networks.identity(), ways=3),
    "transfer": learners.transfer(networks.identity(), num_classes=3, head="logistic", ways=3),
    "hypernet": learners.hypernet(networks.identity(), out_size=3, hidden=(4,), context_size=4),
}


@pytest.mark.parametrize("name", HALF)
def test_learners_work_on_bfloat16_features(name, task):
    learner = HALF[name]
    theta = learner.init(KEY, task)
    rows = [part._replace(x=part.x.astype(jnp.bfloat16)) for part in task[:2]]
    run = jax.jit(lambda theta, s, q: learner.predict(theta, learner.adapt(theta, s), q.x))
    want, got = (np.asarray(run(theta, *parts), np.float32) for parts in (task[:2], rows))
    np.testing.assert_allclose(got, want, atol=0.1 * np.abs(want).max())


@pytest.mark.parametrize("size", [6, 7])
def test_max_pool_is_reduce_window_and_drops_an_odd_border(size):
    x = jax.random.normal(KEY, (2, size, size + 1, 3))
    want = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    np.testing.assert_array_equal(_blocks.max_pool(x), want)


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_normalisation_is_the_layer_norm_of_each_image(offset):
    x = np.random.default_rng(0).normal(size=(3, 4, 5, 2)) * [[[[1.0, 4.0]]]] + offset
    layer = {"scale": np.array([2.0, -1.0]), "offset": np.array([0.5, 0.0])}
    layer["kernel"] = np.eye(2)[None, None]  # of one pixel: the convolution changes nothing
    got = _blocks.layer_norm(jax.tree.map(jnp.asarray, layer), jnp.asarray(x, jnp.float32))
    want = references.layer_norm(x, layer["scale"], layer["offset"])
    np.testing.assert_allclose(got, want, rtol=2e-3, atol=2e-3 if offset else 1e-5)


@pytest.mark.parametrize("shape", [(5, 4), (5, 2, 3)])
def test_mlp_is_the_numpy_one_and_flattens_its_rows(shape):
    x = jax.random.normal(KEY, shape)
    network = networks.mlp([6, 3])
    params = jax.tree.map(lambda leaf: leaf + 0.1, network.init(KEY, x))
    want = references.mlp(jax.tree.map(np.asarray, params), np.asarray(x))
    np.testing.assert_allclose(network.apply(params, x), want, rtol=1e-5, atol=1e-5)


def test_mlp_starts_with_he_variance_and_zero_biases():
    first, last = networks.mlp([300, 200]).init(KEY, jnp.ones((1, 400)))
    np.testing.assert_allclose(first["kernel"].std(), np.sqrt(2 / 400), rtol=0.02)
    np.testing.assert_allclose(last["kernel"].std(), np.sqrt(2 / 300), rtol=0.02)
    assert not np.any(first["bias"]) and not np.any(last["bias"])


def test_identity_is_the_rows_themselves():
    x = jax.random.normal(KEY, (3, 2, 2))
    np.testing.assert_array_equal(networks.identity().apply((), x), x.reshape(3, 4))


def test_bad_sizes_are_refused_by_name():
    with pytest.raises(ValueError, match="at least one layer size"):
        networks.mlp([])
    with pytest.raises(ValueError, match=r"sizes\[1\] must be 1 or more, got 0"):
        networks.mlp([4, 0])
    with pytest.raises(ValueError, match="width must be 1 or more"):
        networks.conv4(0)


# Modules of flax.


class Embedding(nnx.Module):
    def __init__(self, rngs):
        self.inner = nnx.Linear(4, 6, rngs=rngs)
        self.outer = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.outer(nnx.tanh(self.inner(x)))


class LinenEmbedding(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.tanh(nn.Dense(6)(x)))


MODULES = {"nnx": networks.from_nnx(lambda rngs: Embedding(rngs)), "linen": LinenEmbedding()}


def test_from_nnx_gives_the_output_of_the_module(task):
    x = task.support.x
    network = networks.from_nnx(lambda rngs: Embedding(rngs))
    params = network.init(KEY, x)
    np.testing.assert_allclose(network.apply(params, x), Embedding(nnx.Rngs(KEY))(x), rtol=1e-6)
    doubled = jax.tree.map(lambda leaf: 2.0 * leaf, params)
    want = 2.0 * np.tanh(2.0 * (x @ params["inner"]["kernel"])) @ params["outer"]["kernel"]
    np.testing.assert_allclose(network.apply(doubled, x), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODULES)
def test_a_flax_module_works_under_grad_and_vmap(name, task, make_task):
    network = MODULES[name]
    learner = learners.matching(network, ways=3)
    theta = learner.init(KEY, task)
    loss_fn = meta_objective(learner, losses.cross_entropy)
    grad = jax.jit(jax.vmap(jax.grad(lambda *args: loss_fn(*args, None)[0]), (None, 0)))
    tasks = [task, make_task(1)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *tasks)
    together = grad(theta, batch)
    alone = grad(theta, jax.tree.map(lambda leaf: leaf[None], tasks[1]))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[1], b[0], rtol=1e-3, atol=1e-5), together, alone
    )
    kernels = [leaf for leaf in jax.tree.leaves(together["network"]) if leaf.ndim == 3]
    assert len(kernels) == 2 and all(np.abs(leaf).max() > 1e-4 for leaf in kernels)


def test_conv4_by_batch_statistics_is_that_of_the_papers(images):
    """Convolution, normalisation, relu and pooling in this order, though computed in another."""
    network = networks.conv4(3, norm="batch")
    params = network.init(KEY, images)
    rng = np.random.default_rng(0)
    for layer in params:  # scales of both signs: where it is negative pooling finds the least
        layer["scale"] = jnp.asarray(rng.normal(size=3), jnp.float32)
        layer["offset"] = jnp.asarray(rng.normal(size=3), jnp.float32)
    x = images
    for layer in params:
        x = jax.lax.conv_general_dilated(
            x, layer["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        normal = (x - x.mean((0, 1, 2), keepdims=True)) / jnp.sqrt(
            x.var((0, 1, 2), keepdims=True) + 1e-5
        )
        x = jax.nn.relu(
            normal * layer["scale"][None, None, None] + layer["offset"][None, None, None]
        )
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    np.testing.assert_allclose(
        network.apply(params, images), x.reshape(len(x), -1), rtol=1e-3, atol=1e-3
    )
