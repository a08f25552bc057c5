"""Settings and fixtures that several test files share."""

import gc
import os

import chex
import jax
import numpy as np
import pytest

from jaxmeta.types import Examples, Task

# A bias of the wrong rank broadcasts in silence: every change of rank has to be spelt out.
jax.config.update("jax_numpy_rank_promotion", "raise")
# So does one of the wrong dtype.
jax.config.update("jax_numpy_dtype_promotion", "strict")
# Tests compile much and compute little: without XLA's costly passes they take a third of the time.
# JAX_DISABLE_MOST_OPTIMIZATIONS=0 runs them on the code that users run. By way of the environment
# it is so in the processes that tests start, too.
if os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") != "0":
    jax.config.update("jax_disable_most_optimizations", True)
    # XLA reads its flags at the first computation, and dies of one that its version does not know.
    # The emitters of fused loops are the larger half of the compile time; jax 0.12 has no switch.
    old = jax.__version_info__ < (0, 11)
    flag = "--xla_cpu_use_fusion_emitters=false" if old else "--xla_cpu_opt_preset=fast_compile"
    # Small programs gain nothing from being compiled in parts by threads: the workers need those.
    parts = "--xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), flag, parts]).strip()
# Tracing makes many objects that live on: to look for cycles among them takes a tenth of the time.
gc.freeze()
gc.set_threshold(100_000, 20, 20)

WAYS, SUPPORT, QUERIES, FEATURES = 3, 6, 5, 4


@pytest.fixture
def x64():
    """Double precision for the length of one test; the value casts a tree to it."""
    jax.config.update("jax_enable_x64", True)
    yield lambda tree: jax.tree.map(
        lambda leaf: leaf.astype(float) if leaf.dtype == np.float32 else leaf, tree
    )
    jax.config.update("jax_enable_x64", False)


@pytest.fixture(scope="session")
def make_task():
    """`make_task(seed)`: 3 classes, 2 support rows of each, 5 query rows (one of them padding)."""

    def make(seed=0, shape=(FEATURES,)):
        rng = np.random.default_rng(seed)
        y = rng.permutation(SUPPORT) % WAYS
        support = Examples(rng.normal(size=(SUPPORT, *shape)), y, np.ones(SUPPORT))
        labels = rng.integers(0, WAYS, QUERIES)
        labels[-1] = -1
        mask = np.where(labels < 0, 0.0, 1.0)
        query = Examples(rng.normal(size=(QUERIES, *shape)), labels, mask)
        return jax.tree.map(jax.numpy.asarray, as_float32(Task(support, query, rng.normal(size=2))))

    return make


def as_float32(tree):
    return jax.tree.map(
        lambda leaf: leaf.astype(np.int32 if leaf.dtype.kind == "i" else np.float32), tree
    )


@pytest.fixture
def task(make_task):
    """A tiny classification task: S=6 rows, C=3 ways, D=4 features."""
    return make_task(0)


@pytest.fixture
def image_task(make_task):
    """The same with 16x16 images of one channel, the smallest that four poolings leave a pixel."""
    return make_task(0, shape=(16, 16, 1))


@pytest.fixture(scope="session")
def pad():
    """`pad(task, rubbish)`: rows of padding before, between and after the real support rows."""

    def with_padding(task, rubbish):
        x, y, mask = (np.asarray(leaf) for leaf in task.support)
        places = [0, 0, 2, 3, len(x)]
        fill = (rubbish, -1 if y.ndim == 1 else rubbish, 0)
        rows = [
            np.insert(leaf, places, v, axis=0) for leaf, v in zip((x, y, mask), fill, strict=True)
        ]
        return task._replace(support=Examples(*map(jax.numpy.asarray, rows)))

    return with_padding


@pytest.fixture
def count_traces():
    """`jitted, traces = count_traces(function)`: jit it, and count how often it was traced.

    More than one trace is an error of chex, at the place of the second.
    """

    def wrap(function):
        traces = []

        def counted(*args):
            traces.append(1)
            return function(*args)

        return jax.jit(chex.assert_max_traces(counted, n=1)), traces

    chex.clear_trace_counter()
    return wrap
