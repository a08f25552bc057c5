"""How near rows are to each other, the best by class, and the memory that they are found in."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxmeta._absent import bounded
from jaxmeta._precision import as_one_dtype, wide
from jaxmeta.networks._core import scaled_down
from jaxmeta.types import Array


class SupportMemory(NamedTuple):
    """`w` of a learner that remembers its support rows.

    Attributes:
      embeddings: embedded support rows `[S, F]`; rows of zeros where padded.
      members: which class each row belongs to, bool `[S, C]`; all False where padded.
    """

    embeddings: Array
    members: Array


def unit_rows(x: Array) -> Array:
    """Rows of `x [N, F]` scaled to length one, in float32 at the least.

    A row of zeros stays zero, gradient included; one shorter than 1e-6 stays shorter than one.
    """
    small, scale = scaled_down(wide(x))
    squares = jnp.square(small).sum(axis=-1, keepdims=True)
    return small * jax.lax.rsqrt(jnp.maximum(squares, 1e-12 * jnp.square(scale)))


# Distances


def squared_distances(a: Array, b: Array) -> Array:
    """Squared Euclidean distances `[N, M]` between the rows of `a [N, F]` and `b [M, F]`.

    By differences: where rows are far from the origin and near each other, the difference of large
    squares would be noise.
    """
    return _squared_distances(*as_one_dtype(wide(jnp.asarray(a)), wide(jnp.asarray(b))))


@jax.custom_jvp
def _squared_distances(a: Array, b: Array) -> Array:
    chex.assert_rank([a, b], 2)
    return jnp.square(a[:, None] - b[None]).sum(axis=-1)


@_squared_distances.defjvp
def _(primals, tangents):
    # 2 (a - b) (da - db) as matrix products: all pairs of all features at once, which the
    # derivative of the differences would keep, are gigabytes. Nothing is lost, unlike in the
    # distances themselves: no large squares cancel.
    (a, b), (da, db) = primals, tangents
    centre = jax.lax.stop_gradient(b.mean(axis=0, keepdims=True))
    a, b = a - centre, b - centre
    rows = (a * da).sum(axis=-1)[:, None] + (b * db).sum(axis=-1)[None]
    return _squared_distances(*primals), 2.0 * (rows - a @ db.T - da @ b.T)


_SHRINK, _UNIT = 2.0**-64, 2.0**127


def closeness(a: Array, b: Array, real: Array) -> Array:
    """Minus the squared distances `[N, M]` from the rows of `a [N, F]` to the `real` ones of `b`.

    Where all distances from a row pass the largest number, they are told, in a large unit,
    relative to the least of them: which is the nearest stays right.
    """
    near = -squared_distances(a, b)
    lost = ~((near > -jnp.inf) & real[None]).any(axis=1, keepdims=True)
    far = -_by_products(*(wide(jax.lax.stop_gradient(rows)) * _SHRINK for rows in (a, b)))
    far = jnp.where(real[None], far, -jnp.inf)
    # XLA may compute `far` twice, rounded differently: the nearest row gets zero by its index, and
    # no row gets more than zero.
    least = jnp.arange(far.shape[1])[None] == far.argmax(axis=1)[:, None]
    more = jnp.minimum(far - far.max(axis=1, keepdims=True), 0.0)
    return bounded(jnp.where(lost, jnp.where(least, 0.0, _UNIT * more), near))


def _by_products(a: Array, b: Array) -> Array:
    """Squared distances from the squares of centred features."""
    a, b = as_one_dtype(a, b)
    centre = b.mean(axis=0, keepdims=True)
    a, b = a - centre, b - centre
    squares = jnp.square(a).sum(axis=-1)[:, None] + jnp.square(b).sum(axis=-1)[None]
    return jnp.maximum(squares - 2.0 * a @ b.T, 0.0)


# Scores of rows, by class


@jax.custom_jvp
def max_by_class(scores: Array, members: Array) -> Array:
    """The highest of `scores [N, S]` among the rows of each class, `[N, C]`; -inf for none."""
    chex.assert_rank([scores, members], 2)
    return _segment_max(scores.T, members).T


@max_by_class.defjvp
def _(primals, tangents):
    # The derivative is that of the rows that attain it, in equal parts.
    (scores, members), best = primals, max_by_class(*primals)
    classes = _classes(members)
    chosen = scores == jnp.take(best, classes, axis=1, mode="clip")
    chosen = (chosen & members.any(axis=1)[None]).astype(scores.dtype)
    ones = members.astype(scores.dtype)
    number = jnp.maximum(chosen @ ones, 1.0)
    return best, jnp.matmul(chosen * tangents[0], ones, precision="highest") / number


def logsumexp_by_class(scores: Array, members: Array) -> Array:
    """`log sum exp` of `scores [N, S]` over the rows of each class, `[N, C]`; finite for none."""
    chex.assert_rank([scores, members], 2)
    best = _segment_max(scores.T, members).T
    best = jnp.where(best == -jnp.inf, 0.0, best)
    real = members.any(axis=1)[None]
    above = scores - jnp.take(best, _classes(members), axis=1, mode="clip")
    shares = jnp.where(real, jnp.exp(jnp.where(real, above, 0.0)), 0.0)
    total = jnp.matmul(shares, members.astype(scores.dtype), precision="highest")
    return best + jnp.log(jnp.where(total == 0, 1.0, total))


def _segment_max(scores: Array, members: Array) -> Array:
    """The highest of `scores [S, N]` in each class, `[C, N]`, a constant."""
    scores = jax.lax.stop_gradient(scores)
    return jax.ops.segment_max(scores, _classes(members), members.shape[1])


def _classes(members: Array) -> Array:
    """The class of each row `[S]`; C for a row of none, which is no place of a result."""
    return jnp.where(members.any(axis=1), members.argmax(axis=1), members.shape[1])
