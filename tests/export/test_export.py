"""Export: the same logits from a smaller file, without JAX; and StableHLO for any batch."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import export, learners, networks, sparsity, transforms
from jaxmeta.evaluation import prediction_set
from jaxmeta.types import Examples, Task

KEY = jax.random.key(0)
NET = networks.identity()
HEADS = {
    "hypernet": (learners.hypernet(NET, out_size=4, hidden=(5,), context_size=6), {}),
    "linear hypernet": (learners.hypernet(NET, out_size=4, hidden=(), context_size=6), {}),
    "ridge": (learners.ridge(NET, ways=4), {}),
    "prototypes euclidean": (learners.prototypes(NET, ways=4), {"distance": "euclidean"}),
    "prototypes cosine": (
        learners.prototypes(NET, ways=4, distance="cosine"),
        {"distance": "cosine"},
    ),
    "matching": (learners.matching(NET, ways=4), {}),
}


@pytest.fixture
def rows():
    return np.random.default_rng(1).normal(size=(9, 4)).astype(np.float32)


def adapted(learner, task):
    theta = learner.init(KEY, task)
    return theta, learner.adapt(theta, task.support)


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("name", HEADS)
def test_the_file_gives_the_logits_of_the_learner(name, share, task, rows):
    """Two rows a class, and a fourth class that the task does not have."""
    learner, options = HEADS[name]
    theta, w = adapted(transforms.sparsify(learner, sparsity.top_k(share)), task)
    whole = export.perceptron(theta, w, **options)
    want = learner.predict(theta, w, rows)
    for each in (whole, export.prune_dead_units(whole)):
        got = export.load(export.numpy_source(each))(rows)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(got[:, 3], np.finfo(np.float32).min)


def layered(*kernels):
    """A perceptron of these kernels with biases of one."""
    layers = tuple((np.asarray(k, np.float32), np.ones(len(k[0]), np.float32)) for k in kernels)
    sizes = len(kernels[0]), len(kernels[-1][0])
    return export.Perceptron(layers, np.arange(sizes[0]), sizes[0], np.arange(sizes[1]), sizes[1])


def test_dead_units_go_and_constant_ones_become_biases():
    first = [[0, 0, 0, 0], [2, 0, 0, 1], [3, 0, 0, 0]]  # unit 1 is constant, 2 too; input 0 unread
    second = [[1, 0], [2, 1], [0, 0], [0, 0]]  # units 2 and 3 are not read
    small = export.prune_dead_units(layered(first, second))
    np.testing.assert_array_equal(small.inputs, [1, 2])
    np.testing.assert_array_equal(small.layers[0][0], [[2], [3]])
    np.testing.assert_array_equal(small.layers[1][0], [[1, 0]])
    np.testing.assert_array_equal(small.layers[1][1], [3, 2])  # the constant: relu(1) * [2, 1]


def test_what_dies_in_one_layer_dies_in_the_next(rows):
    """A chain of units of which the last is not read: all of it goes, and the input too."""
    whole = layered(np.eye(4), np.eye(4), np.diag([1, 1, 0, 1]), np.ones((4, 2)))
    small = export.prune_dead_units(whole)
    assert [kernel.shape for kernel, _ in small.layers] == [(3, 3), (3, 3), (3, 3), (3, 2)]
    np.testing.assert_array_equal(small.inputs, [0, 1, 3])
    both = [export.load(export.numpy_source(each))(rows) for each in (whole, small)]
    np.testing.assert_allclose(*both, rtol=1e-6)


def test_nothing_at_all_is_left_of_a_learner_of_zeros(rows):
    small = export.prune_dead_units(layered(np.zeros((4, 3)), np.zeros((3, 2))))
    assert small.inputs.size == 0 and small.layers[0][0].size == 0
    np.testing.assert_allclose(export.load(export.numpy_source(small))(rows), np.ones((9, 2)))


def sparse_hypernet():
    """A perceptron of 196-256-5 that keeps a fifth of its inputs and of its hidden units."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(10, 196)), jnp.float32)
    support = Examples(x, jnp.arange(10) % 5, jnp.ones(10))
    learner = learners.hypernet(NET, out_size=5, hidden=(256,), context_size=8, rank=4)
    inputs, units = (sparsity.top_k(0.2, per=per) for per in ("input", "unit"))

    def prox(w, step):
        lower, upper = w.layers
        lower = units(inputs(lower, step), step)
        return w._replace(layers=(lower, inputs(upper, step)))

    learner = transforms.sparsify(learner, prox)
    theta, w = jax.jit(lambda: adapted(learner, Task(support, support)))()
    return learner, theta, w


def test_ten_thousand_rows_agree_from_a_five_times_smaller_file():
    learner, theta, w = sparse_hypernet()
    x = np.random.default_rng(1).normal(size=(10_000, 196)).astype(np.float32)
    whole = export.perceptron(theta, w)
    small, dense = export.measure(whole, x, learner.predict(theta, w, x), seconds=0.01, rounds=1)
    assert small.difference <= 1e-5 and dense.difference <= 1e-5
    assert 5 * small.num_bytes < dense.num_bytes
    assert 5 * small.multiply_adds < dense.multiply_adds and small.nonzeros < dense.nonzeros
    assert all(each > 0 for each in small.microseconds)
    assert f"{small.num_bytes:,} bytes" in export.describe(small)


def test_the_file_runs_where_jax_cannot_be_imported(tmp_path):
    learner, theta, w = sparse_hypernet()
    x = np.random.default_rng(1).normal(size=(3, 196)).astype(np.float32)
    source = export.numpy_source(export.prune_dead_units(export.perceptron(theta, w)))
    (tmp_path / "learner.py").write_text(source)
    np.save(tmp_path / "x.npy", x)
    program = (
        "import sys; sys.modules['jax'] = sys.modules['jaxmeta'] = None\n"
        "import numpy, learner\n"
        "numpy.save('z.npy', learner.predict(numpy.load('x.npy')))\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    want = learner.predict(theta, w, x)
    np.testing.assert_allclose(np.load(tmp_path / "z.npy"), want, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_stablehlo_serves_any_batch_with_its_encoder(image_task):
    learner = learners.prototypes(networks.conv4(4), ways=3)
    theta, w = adapted(learner, image_task)
    code = export.stablehlo(lambda x: learner.predict(theta, w, x), (16, 16, 1))
    loaded = jax.export.deserialize(bytearray(code))
    assert loaded.platforms == ("cpu", "cuda")
    x = image_task.query.x
    want = learner.predict(theta, w, x)
    for rows in (2, 5):
        np.testing.assert_allclose(loaded.call(x[:rows]), want[:rows], rtol=1e-4)


def test_what_is_no_perceptron_is_refused(task):
    theta, w = adapted(learners.learned_init(networks.mlp([4]), ways=3), task)
    with pytest.raises(ValueError, match="NetworkParameters; export its predict"):
        export.perceptron(theta, w)


@pytest.mark.parametrize("name", ["hypernet", "ridge", "prototypes euclidean", "prototypes cosine"])
def test_a_temperature_and_a_threshold_leave_with_the_learner(name, task, rows):
    learner, options = HEADS[name]
    theta = learner.init(KEY, task)
    theta = transforms.TemperedTheta(theta, jnp.zeros(1), jnp.log(jnp.full(1, 2.5)))
    learner = transforms.temperature(learner)
    w = learner.adapt(theta, task.support)
    whole = export.prune_dead_units(export.perceptron(theta, w, **options))
    names = {}
    exec(export.numpy_source(whole, threshold=0.6), names)
    z = learner.predict(theta, w, rows)
    np.testing.assert_allclose(names["predict"](rows), z, rtol=1e-5, atol=1e-5)
    p = jax.nn.softmax(z)
    np.testing.assert_allclose(names["predict_proba"](rows), p, rtol=1e-4, atol=1e-6)
    assert names["THRESHOLD"] == 0.6
    clear = (np.abs(1 - np.asarray(p) - 0.6) > 1e-4).all(axis=1)
    np.testing.assert_array_equal(names["predict_set"](rows)[clear], prediction_set(p, 0.6)[clear])


def test_what_excludes_nothing_or_is_no_scale_is_refused(task):
    learner, _ = HEADS["matching"]
    theta, w = adapted(learner, task)
    whole = export.perceptron(theta, w)
    assert "THRESHOLD" not in export.numpy_source(whole)
    with pytest.raises(ValueError, match="calibrate on more tasks"):
        export.numpy_source(whole, threshold=float("inf"))
    theta = transforms.TemperedTheta(theta, jnp.zeros(1), jnp.zeros(1))
    with pytest.raises(ValueError, match="several rows"):
        export.perceptron(theta, transforms.temperature(learner).adapt(theta, task.support))
