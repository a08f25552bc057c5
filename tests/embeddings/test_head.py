"""`named_head`: one formula in NumPy and in JAX, the same whatever the order and the padding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta import losses, meta_objective, sparsity
from jaxmeta.embeddings import ClassNames, FewShotClassifier, named_head
from jaxmeta.embeddings._formula import START, HeadTheta
from jaxmeta.types import Examples, Task
from tests.embeddings.features import task

THETA = HeadTheta(*(jnp.float32(value) for value in START))


ROWS = 24  # to which rows are padded, so that few programs are compiled


def examples(x, y, rows=ROWS):
    padding = rows - len(x)
    codes = np.unique(y, return_inverse=True)[1]
    x = np.concatenate([x, np.full((padding, x.shape[1]), 7.0)])
    real = np.arange(len(x)) < len(y)
    codes = np.concatenate([codes, np.full(padding, -1)])
    return Examples(*map(jnp.asarray, (x.astype(np.float32), codes, real.astype(np.float32))))


def described(names, but=()):
    known = np.array([label not in but for label in names], np.float32)
    vectors = np.stack(list(names.values())).astype(np.float32)
    return ClassNames(jnp.asarray(vectors), jnp.asarray(known))


@functools.cache
def compiled(ways):
    init, adapt, predict, extend = named_head(ways=ways)
    return init, jax.jit(adapt), jax.jit(predict), jax.jit(extend)


def adapt(support, description=None, ways=4):
    return compiled(ways)[1](THETA, support, description=description)


def logits(w, x, ways=4):
    return np.asarray(compiled(ways)[2](THETA, w, jnp.asarray(x, jnp.float32)))


@pytest.mark.parametrize("shots", [1, 3, 40])
@pytest.mark.parametrize("named", ["all", "some", "none"])
def test_numpy_and_jax_emit_the_same(shots, named):
    x, y, names, queries, _ = task(shots=shots, rows=50)
    but = {"all": [], "some": list(names)[:2], "none": list(names)}[named]
    rows = 200 if shots == 40 else ROWS
    w = adapt(examples(x, y, rows), described(names, but))
    model = FewShotClassifier()
    model.theta_ = model._theta()._replace(head=START)
    kept = {label: name for label, name in names.items() if label not in but}
    model.fit(x, y, kept)
    want = np.asarray(jax.nn.softmax(logits(w, queries)))
    np.testing.assert_allclose(model.predict_proba(queries), want, atol=1e-5)
    np.testing.assert_allclose(model.kernel_, w.kernel, atol=1e-4)


def test_padding_and_order_change_nothing():
    x, y, names, queries, _ = task()
    want = logits(adapt(examples(x, y), described(names)), queries)
    padded = adapt(examples(x, y, rows=200), described(names))
    np.testing.assert_allclose(logits(padded, queries), want, atol=1e-4)
    order = np.random.default_rng(0).permutation(len(y))
    mixed = adapt(examples(x[order], y[order]), described(names))
    np.testing.assert_allclose(logits(mixed, queries), want, atol=1e-4)


def test_classes_change_places_with_their_columns():
    x, y, names, queries, _ = task()
    support = examples(x, y)
    want = logits(adapt(support, described(names)), queries)
    turned = ClassNames(*(part[::-1] for part in described(names)))
    y = jnp.where(support.mask > 0, 3 - support.y, -1)
    w = adapt(support._replace(y=y), turned)
    np.testing.assert_allclose(logits(w, queries)[:, ::-1], want, atol=1e-4)


def test_columns_of_absent_classes_change_nothing():
    x, y, names, queries, _ = task()
    nameless = described(names, but=names)
    want = logits(adapt(examples(x, y), nameless), queries)
    wide = logits(adapt(examples(x, y), ways=9), queries, ways=9)
    np.testing.assert_allclose(wide[:, :4], want, atol=1e-4)
    assert (wide[:, 4:] == np.finfo(np.float32).min).all()


def test_extend_is_adapt_on_the_union():
    x, y, names, queries, _ = task()
    whole = adapt(examples(x, y), described(names))
    w = adapt(examples(x[:5], y[:5], rows=12), described(names))
    rest = examples(x, y)
    rest = jax.tree.map(lambda leaf: leaf[5:17], rest)
    w = compiled(4)[3](THETA, w, rest)
    np.testing.assert_allclose(logits(w, queries), logits(whole, queries), atol=1e-4)


def test_names_alone_are_enough():
    x, y, names, queries, labels = task(spread=0.4)
    w = adapt(examples(x[:0], y[:0]), described(names))
    codes = np.unique(labels, return_inverse=True)[1]
    assert (logits(w, queries).argmax(axis=1) == codes).mean() > 0.9


def test_rows_of_zeros_give_no_nan_and_no_gradient_is_nan():
    x, y, names, queries, labels = task()
    support = examples(np.concatenate([x[:-1], 0 * x[:1]]), y)
    one = Task(support, examples(0 * queries, labels, len(labels)), described(names))
    loss_fn = meta_objective(named_head(ways=4), losses.cross_entropy, sparsity.l1)
    loss, gradient = jax.jit(jax.value_and_grad(lambda at: loss_fn(at, one, None)[0]))(THETA)
    assert np.isfinite(loss) and np.isfinite(gradient).all()


def test_names_of_another_size_are_refused():
    x, y, names, _, _ = task()
    short = ClassNames(described(names).vectors[:, :3], jnp.ones(4))
    with pytest.raises(ValueError, match=r"reads names \[4, 16\]"):
        named_head(ways=4).adapt(THETA, examples(x, y), description=short)
