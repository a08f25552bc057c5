"""A prior over small tables: random columns, a random rule of several kinds, random damage.

Everything is drawn on the device from one key, at static sizes; real sizes are masks. Families are
computed side by side and one, or the sum of two, is taken: under vmap a branch costs as much.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta._validation import check_positive
from jaxmeta.tabular.meta_net import TableDescription
from jaxmeta.tabular.prior._draws import (
    NEVER,
    Draws,
    as_number,
    choose,
    draw_pools,
    gumbel,
    log_uniform,
    unit,
)
from jaxmeta.tabular.prior._rules import class_scores
from jaxmeta.types import Array, Examples, Sampler, Task

_LATENTS, _HIDDEN, _CLUSTERS = 8, 12, 8
_LEVELS = 8
_LEAST_COLUMNS, _LEAST_ROWS = 2, 10
_CLASS_COUNTS = (0.6, 0.2, 0.1, 0.1)  # chances of 2, 3, 4 and 5 classes


class _Columns(NamedTuple):
    """What is drawn of the columns: what is seen of them, and what the rule reads, `[N, D]`."""

    seen: Array
    read: Array
    categorical: Array


def tabular_prior(
    *, rows: int = 100, queries: int = 64, columns: int = 20, classes: int = 5
) -> Sampler:
    """Classification of synthetic tables.

    Columns are noise of their own, sparse mixtures of a few latent causes, a random network of
    them, or clusters; then they go through monotone warps, or are cut into levels, ordered or
    not. The rule is sparse and linear, a random network, a sum of oblivious trees, additive bumps,
    or nearness to centres; it reads the columns before they are warped. Classes may be unequal,
    labels may be noisy or wrong, values may be missing, at random or where they are large; more
    than a quarter of the tasks have next to no noise.

    Args:
      rows: the most support rows S; a task has 10 or more of them.
      queries: query rows Q.
      columns: the most columns D; a task has 2 or more.
      classes: the most classes C; a task has 2 to 5.

    Returns:
      `sampler(key) -> Task` with `x [N, 2, D]`: values, zero where missing, and 1 where one is
      known; a column that the task has not is never known. y `[N]` in 0..C-1. A query row of a
      class that no support row has is masked: nobody could know it. The description is a
      `TableDescription`; values of categorical columns are codes 0, 1, ...

    Raises:
      ValueError: if a count is less than 1, or there are too few columns or classes.

    Example:
      >>> import jax
      >>> from jaxmeta.tabular import prior
      >>> sampler = prior.tabular_prior(rows=12, queries=4, columns=5)
      >>> task = jax.eval_shape(sampler, jax.random.key(0))
      >>> task.support.x.shape, task.query.y.shape
      ((12, 2, 5), (4,))

    References:
      Hollmann et al., TabPFN, arXiv:2207.01848.
    """
    check_positive(rows=rows, queries=queries, columns=columns, classes=classes)
    if columns < _LEAST_COLUMNS or not 2 <= classes <= 1 + len(_CLASS_COUNTS):
        raise ValueError(
            f"tabular_prior needs {_LEAST_COLUMNS} or more columns and 2 to "
            f"{1 + len(_CLASS_COUNTS)} classes, got columns={columns} and classes={classes}."
        )

    def sampler(key: Array) -> Task:
        # What every row takes, and a little more than what the rows share.
        number, shared = rows + queries, 1024 + 128 * columns
        draws = draw_pools(
            key,
            normal=number * (_LATENTS + columns) + shared,
            uniform=number * (2 + columns + 2 * classes) + shared,
        )
        num_rows, num_columns, num_classes = _sizes(draws, rows, columns, classes)
        real = jnp.arange(columns) < num_columns
        drawn = _columns(draws, rows + queries, real)
        scores = class_scores(draws, jnp.where(real[None], drawn.read, 0.0), real, classes)
        y = _labels(draws, scores, jnp.arange(classes) < num_classes)
        known = _known(draws, drawn.read) & real[None]
        values = jnp.where(known, drawn.seen, 0.0)
        x = jnp.stack([values, known.astype(values.dtype)], axis=1)
        mask = jnp.arange(rows) < num_rows
        members = jax.nn.one_hot(y[:rows], classes) * as_number(mask)[:, None]
        taught = (members.sum(axis=0) > 0)[y[rows:]]
        return Task(
            support=Examples(x[:rows], jnp.where(mask, y[:rows], -1), mask.astype(x.dtype)),
            query=Examples(x[rows:], jnp.where(taught, y[rows:], -1), taught.astype(x.dtype)),
            description=TableDescription(
                (drawn.categorical & real).astype(x.dtype), _num_terms(draws)
            ),
        )

    return sampler


def _sizes(draws: Draws, rows: int, columns: int, classes: int) -> tuple[Array, Array, Array]:
    """Real rows (all of them in half of the tasks), columns and classes of one task."""
    some = log_uniform(draws.uniform(), min(_LEAST_ROWS, rows), rows + 1)
    num_rows = jnp.where(draws.uniform() < 0.5, rows, some.astype(jnp.int32))
    num_columns = log_uniform(draws.uniform(), _LEAST_COLUMNS, columns + 1).astype(jnp.int32)
    chances = jnp.log(jnp.asarray(_CLASS_COUNTS[: classes - 1]))
    return num_rows, num_columns, 2 + choose(draws.uniform(classes - 1), chances)


def _num_terms(draws: Draws) -> Array:
    """Terms that a model may have: 4 to 64 in half of the tasks, else 0, for no bound."""
    bound = log_uniform(draws.uniform(), 4.0, 65.0).astype(jnp.int32)
    return jnp.where(draws.uniform() < 0.5, bound, 0)


def _columns(draws: Draws, num_rows: int, real: Array) -> _Columns:
    """Columns of one task; a task prefers one source, and each column may have another."""
    num_columns = len(real)
    centres = 2.0 * draws.normal(_CLUSTERS, _LATENTS)
    member = (_CLUSTERS * draws.uniform(num_rows)).astype(jnp.int32)
    clustered = as_number(draws.uniform() < 0.3)
    latent = draws.normal(num_rows, _LATENTS) + clustered * centres[member]
    own = draws.normal(num_rows, num_columns)
    sparse = as_number(draws.uniform(_LATENTS, num_columns) < 0.4)
    mixture = unit(latent @ (sparse * draws.normal(_LATENTS, num_columns)))
    hidden = jnp.tanh(1.5 * unit(latent @ draws.normal(_LATENTS, _HIDDEN)))
    net = unit(hidden @ draws.normal(_HIDDEN, num_columns))
    preference = jnp.log(jnp.square(draws.normal(3)) + 1e-6)
    source = choose(draws.uniform(num_columns, 3), preference)
    noise = log_uniform(draws.uniform(), 0.05, 1.0) * own
    source = source[None]
    x = jnp.where(source == 0, own, jnp.where(source == 1, mixture, net) + noise)
    return _measure(draws, unit(x))


def _measure(draws: Draws, x: Array) -> _Columns:
    """Warp each column, or cut it into levels."""
    num_columns = x.shape[1]
    shares = draws.uniform(2) * as_number(draws.uniform(2) < 0.5)
    categorical = draws.uniform(num_columns) < shares[0]
    cut = categorical | (draws.uniform(num_columns) < shares[1])
    num_levels = log_uniform(draws.uniform(num_columns), 2.0, _LEVELS + 1.0).astype(jnp.int32)
    cuts = 1.2 * draws.normal(_LEVELS - 1, num_columns)
    used = jnp.arange(_LEVELS - 1)[:, None] < num_levels[None] - 1
    level = ((x[:, None] > cuts[None]) & used[None]).sum(axis=1)
    # A level without order has an effect of its own on the rule; the codes keep the order, which
    # nobody may use.
    effect = jnp.take_along_axis(draws.normal(_LEVELS, num_columns), level, axis=0)
    ordered = jnp.where(cut[None], level.astype(x.dtype), x)
    read = jnp.where(categorical[None], effect, ordered)
    kind = (8 * draws.uniform(num_columns)).astype(jnp.int32)
    warps = (jnp.exp(x), x * jnp.abs(x), jnp.arctan(2.0 * x), jnp.exp(2.0 * jnp.clip(x, -4, 4)))
    warped = x
    for number, warp in enumerate(warps):
        warped = jnp.where((kind == number)[None], warp, warped)
    stretch, shift = draws.normal(2, num_columns)
    warped = jnp.exp(2.0 * stretch)[None] * (warped + 3.0 * shift[None])
    seen = jnp.where(cut[None], level.astype(x.dtype), warped)
    return _Columns(seen, unit(read), categorical)


def _labels(draws: Draws, scores: Array, real: Array) -> Array:
    """Labels `[N]`: noisy, unequal, sometimes wrong; more than a quarter nearly without noise."""
    quiet = draws.uniform() < 0.28
    strength = jnp.where(quiet, 30.0, log_uniform(draws.uniform(), 0.7, 10.0))
    bias = 1.2 * draws.uniform() * draws.normal(scores.shape[1])
    z = strength * scores + jnp.maximum(strength, 1.0) * bias[None]
    z = jnp.where(real[None], z + gumbel(draws.uniform(*scores.shape)), NEVER)
    rate = 0.15 * draws.uniform() * as_number((draws.uniform() < 0.25) & ~quiet)
    wrong = draws.uniform(len(scores)) < rate
    others = choose(draws.uniform(*scores.shape), jnp.where(real, 0.0, NEVER))
    return jnp.where(wrong, others, jnp.argmax(z, axis=1)).astype(jnp.int32)


def _known(draws: Draws, x: Array) -> Array:
    """Which values are known, bool `[N, D]`: missing at random, and where a column is large."""
    num_columns = x.shape[1]
    some = draws.uniform() < 0.3
    lost = draws.uniform(*x.shape) < 0.5 * draws.uniform(1, num_columns) ** 3
    large = draws.uniform(1, num_columns) < 0.1
    cut = 0.5 + 1.5 * draws.uniform(1, num_columns)
    return ~(some & (lost | (large & (x > cut))))
