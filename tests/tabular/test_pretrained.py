"""The shipped programs: the meta-net's own numbers, without JAX, from any thread or process."""

import multiprocessing
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from threadpoolctl import threadpool_info

from jaxmeta.export import load_program, numpy_program
from jaxmeta.tabular import MetaClassifier, meta_net
from jaxmeta.tabular._arrays import MOST_CLASSES, MOST_COLUMNS, ROWS
from jaxmeta.tabular.estimator._pretrained import emit
from jaxmeta.tabular.meta_net import _programs

WEIGHTS = resources.files("jaxmeta.tabular") / "weights"


def table(rows, columns=6, ways=2, seed=0, holes=0.0):
    """Numbers, two columns of codes, values missing; classes by a rule."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns)).astype(np.float32)
    x[:, :2] = rng.integers(0, 8, (rows, 2))
    score = x[:, 2] + (x[:, 0] == 1) + x[:, 3] * x[:, 4] + 0.3 * rng.normal(size=rows)
    y = np.digitize(score, np.quantile(score, np.arange(1, ways) / ways))
    x[rng.random(x.shape) < holes] = np.nan
    return x, y, np.arange(columns) < 2


@pytest.fixture(scope="module")
def theta():
    with resources.as_file(WEIGHTS / "tabular.ckpt") as file:
        return _programs.restore(file)


def adapt(theta, support, description):
    return meta_net.tabular(ways=MOST_CLASSES).adapt(theta, support, description=description)


def given(x, y, categorical, num_terms, rows):
    support = meta_net.table_examples(x, y, rows=rows, columns=MOST_COLUMNS)
    return support, meta_net.table_description(
        categorical, columns=MOST_COLUMNS, num_terms=num_terms
    )


TABLES = [(2, 0, 0.1), (4, 7, 0.0), (5, 0, 0.3)]
"""Classes, terms, and the share that is missing."""


def test_a_program_of_adapt_is_adapt_to_double_precision(theta, x64):
    """Every operation; in single precision, rounding turns which row is the next landmark.

    So it does where rows are fewer than landmarks, and the surplus repeats rows.
    """
    args = x64((theta, *given(*table(32), 0, 32)))
    program = load_program(numpy_program(adapt, *args))
    compiled = jax.jit(adapt)
    for seed, (ways, num_terms, holes) in enumerate(TABLES):
        x, y, categorical = table(32, ways=ways, seed=seed, holes=holes)
        args = x64((theta, *given(x, y, categorical, num_terms, 32)))
        want = jax.tree.leaves(compiled(*args))
        got = program(*map(np.asarray, jax.tree.leaves(args)))
        for ours, theirs in zip(got, want, strict=True):
            assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("rows", ROWS)
def test_shipped_programs_are_the_shipped_weights(theta, rows):
    compiled, predict = jax.jit(adapt), jax.jit(partial(meta_net.tabular().predict, None))
    apart = []
    for seed, (ways, num_terms, holes) in enumerate(3 * TABLES):
        x, y, categorical = table(rows, ways=ways, seed=seed, holes=holes)
        support, description = given(x, y, categorical, num_terms, rows)
        both = emit(x, y, categorical, num_terms), compiled(theta, support, description)
        seen = jnp.asarray(support.x)
        z = [predict(jax.tree.map(jnp.asarray, w), seen) for w in both]
        p, q = (jax.nn.softmax(each[: len(x), :ways]) for each in z)
        apart.append(np.abs(p - q).mean())
    # Rarely two terms or rows are worth the same, and rounding chooses between them.
    assert np.median(apart) < 1e-3 and np.sort(apart)[-3] < 5e-3


def test_writing_them_again_changes_no_number(tmp_path):
    """Whoever changes what the meta-net computes writes them again."""
    with resources.as_file(WEIGHTS / "tabular.ckpt") as file:
        meta_net.write_programs(tmp_path / "tabular.npz", file)
    x, y, categorical = table(32, ways=3, holes=0.1)
    args = jax.tree.leaves(given(x, y, categorical, 0, 32))
    emitted = []
    for path in (tmp_path / "tabular.npz", WEIGHTS / "tabular.npz"):
        with path.open("rb") as file, np.load(file) as arrays:
            theta = [arrays[name] for name in sorted(arrays) if name.startswith("theta_")]
            emitted.append(load_program(arrays["adapt_32"].tobytes().decode(), *theta)(*args))
    for written, shipped in zip(*emitted, strict=True):
        # Versions of jax trace to operations that round in different ways.
        np.testing.assert_allclose(written, shipped, rtol=1e-3, atol=1e-4)


CODE = """
import pickle, sys
import numpy as np
from jaxmeta.tabular import MetaClassifier
rng = np.random.default_rng(0)
x = rng.normal(size=(40, 3))
model = pickle.loads(pickle.dumps(MetaClassifier(5).fit(x, x[:, 0] > 0)))
assert model.score(x, x[:, 0] > 0) > 0.8
model.explain()
print(sorted({"jax", "flax", "optax"} & set(sys.modules)))
"""


def test_fitting_and_predicting_start_no_jax():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "[]", done.stderr


def fitted(seed):
    x, y, _ = table(50 + seed, seed=seed)
    return MetaClassifier().fit(x, y).predict_proba(x)


def test_fits_from_threads_are_those_of_one_after_the_other():
    alone = [fitted(seed) for seed in range(8)]
    before = [each["num_threads"] for each in threadpool_info()]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(fitted, [*range(8)] * 3, timeout=100))
    for one, other in zip(alone * 3, together, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [each["num_threads"] for each in threadpool_info()] == before


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")
def test_a_forked_child_fits():
    """After a fit of the parent, as pre-forking web servers do."""
    want = fitted(0)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply_async(fitted, (0,)).get(timeout=100), want)


def test_a_pickle_is_of_numpy_alone():
    x, y, _ = table(40)
    model = MetaClassifier().fit(x, y)
    assert b"jax.numpy" not in pickle.dumps(model) and b"meta_net" not in pickle.dumps(model)
