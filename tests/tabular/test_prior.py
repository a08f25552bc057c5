"""Synthetic tables: sizes by masks, learnable rules, and nothing that gives the answer away."""

import jax
import numpy as np
import pytest

from jaxmeta.tabular.prior import tabular_prior

ROWS, QUERIES, COLUMNS, CLASSES = 40, 20, 6, 4


@pytest.fixture(scope="module")
def tables():
    """200 tables at once, on the host."""
    sampler = tabular_prior(rows=ROWS, queries=QUERIES, columns=COLUMNS, classes=CLASSES)
    keys = jax.random.split(jax.random.key(0), 200)
    return jax.device_get(jax.jit(jax.vmap(sampler))(keys))


def test_sizes_vary_within_their_bounds(tables):
    rows = tables.support.mask.sum(axis=1)
    assert rows.min() >= 10 and rows.max() == ROWS and len(np.unique(rows)) > 10
    assert 0.4 < (rows == ROWS).mean() < 0.7
    columns = (tables.support.x[:, :, 1].sum(axis=1) > 0).sum(axis=1)
    assert set(columns) == set(range(2, COLUMNS + 1))
    assert tables.support.x.shape == (200, ROWS, 2, COLUMNS)
    assert tables.query.x.shape == (200, QUERIES, 2, COLUMNS)


def test_labels_are_classes_and_minus_one_in_padding(tables):
    for part in (tables.support, tables.query):
        assert np.isfinite(part.x).all()
        np.testing.assert_array_equal(part.y >= 0, part.mask > 0)
        assert part.y.max() == CLASSES - 1
    ways = [len(np.unique(y[y >= 0])) for y in tables.support.y]
    assert 0.4 < np.mean(np.asarray(ways) == 2) < 0.75


def test_a_query_row_of_a_class_without_support_is_masked(tables):
    hidden = 0
    for support, query in zip(tables.support.y, tables.query.y, strict=True):
        assert set(query[query >= 0]) <= set(support[support >= 0])
        hidden += (query < 0).sum()
    assert 0 < hidden < 0.1 * tables.query.y.size


def test_unknown_values_are_zero_and_some_are_missing(tables):
    values, known = np.moveaxis(tables.support.x, 2, 0)
    assert not values[known == 0].any()
    used = known.sum(axis=1) > 0
    share = (known.sum(axis=1) / ROWS)[used]
    assert 0.05 < (share < 1).mean() < 0.5


def test_categorical_columns_hold_codes_of_few_levels(tables):
    categorical = tables.description.categorical
    assert 0.05 < categorical.mean() < 0.5
    for task, column in zip(*np.nonzero(categorical), strict=True):
        codes = np.unique(tables.support.x[task, :, 0, column])
        assert set(codes) <= set(range(8))


def test_bounds_on_terms_come_in_half_of_the_tasks(tables):
    terms = tables.description.num_terms
    assert 0.4 < (terms == 0).mean() < 0.6
    assert terms[terms > 0].min() >= 4 and terms.max() <= 64


def test_most_rules_can_be_learnt_from_the_rows(tables):
    """One nearest neighbour in ranks beats the commonest class of the support rows by far."""
    right, common = [], []
    for task in range(len(tables.support.y)):
        support, query = (
            jax.tree.map(lambda leaf, task=task: leaf[task], part) for part in tables[:2]
        )
        seen, asked = support.mask > 0, query.mask > 0
        x = np.concatenate([support.x[seen, 0], query.x[asked, 0]])
        ranks = x.argsort(axis=0).argsort(axis=0) / len(x)
        gaps = np.abs(ranks[seen.sum() :, None] - ranks[None, : seen.sum()]).sum(axis=-1)
        right += (support.y[seen][gaps.argmin(axis=1)] == query.y[asked]).tolist()
        common += (np.bincount(support.y[seen]).argmax() == query.y[asked]).tolist()
    assert np.mean(right) > np.mean(common) + 0.04


def test_a_table_is_a_function_of_its_key(tables):
    sampler = tabular_prior(rows=ROWS, queries=QUERIES, columns=COLUMNS, classes=CLASSES)
    key = jax.random.split(jax.random.key(0), 200)[7]
    again = jax.device_get(jax.jit(sampler)(key))
    for one, many in zip(jax.tree.leaves(again), jax.tree.leaves(tables), strict=True):
        np.testing.assert_allclose(one, many[7], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sizes", [{"columns": 1}, {"classes": 1}, {"classes": 6}, {"rows": 0}])
def test_sizes_that_make_no_table_are_refused(sizes):
    with pytest.raises(ValueError, match="needs|must be 1 or more"):
        tabular_prior(**sizes)
