"""A buffer of fixed size, for learners whose `w` is one row for each support row."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta._validation import check_positive, is_known
from jaxmeta.types import Array, Examples, MetaLearner, PyTree

WhenFull = Literal["refuse", "forget"]


class RowBuffer(NamedTuple):
    """`w` of a learner with a `capacity` B.

    Attributes:
      rows: what the learner remembers, leaves `[B, ...]`; zeros in places that are free.
      place: where the next row goes, int32 `[]`; B if there is none, B + 1 if one was refused.
    """

    rows: PyTree
    place: Array


def buffered(
    learner: MetaLearner, capacity: int | None, when_full: WhenFull, ways: int | None
) -> MetaLearner:
    """A learner with a `w` of fixed size, which rows can join; the learner itself for None.

    Args:
      learner: one whose `w` has one row `[S, ...]` for each support row, which depends on no other.
      capacity: places B.
      when_full: whether a row too many takes the place of the oldest or is refused.
      ways: the number of classes, which has to be known where the rows do not come at once.

    Raises:
      ValueError: for a capacity below 1 or another `when_full`; in `adapt`, for classes without
        `ways`; in `adapt` and `extend`, for rows that are refused, if their number is known.
    """
    if when_full not in ("refuse", "forget"):
        raise ValueError(f"A full buffer can 'refuse' or 'forget', got when_full={when_full!r}.")
    if capacity is None:
        return learner
    check_positive(capacity=capacity)

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> RowBuffer:
        rows = learner.adapt(theta, support, description=description, key=key)
        if ways is None and support.y.ndim == 1:
            raise ValueError(
                "A learner with a capacity has to know how many classes may come: give it ways."
            )
        real = support.mask.astype(bool)
        if when_full == "refuse":
            _check_room(jnp.int32(0), real, capacity)
        return _filled(rows, real, capacity, when_full)

    def extend(theta: PyTree, w: RowBuffer, examples: Examples) -> RowBuffer:
        rows, real = learner.adapt(theta, examples), examples.mask.astype(bool)
        if when_full == "refuse":
            _check_room(w.place, real, capacity)
        w, _ = jax.lax.scan(
            lambda w, row: (_put(w, *row, capacity, when_full), None), w, (rows, real)
        )
        return w

    def predict(theta: PyTree, w: RowBuffer, x: Array) -> Array:
        z = learner.predict(theta, w.rows, x)
        # Inside jit nothing can be raised: no number is better than a wrong one.
        return jnp.where(w.place > capacity, jnp.nan, z)

    return MetaLearner(learner.init, adapt, predict, extend)


def _check_room(place: Array, real: Array, capacity: int) -> None:
    if is_known(place, real) and (total := int(place) + int(real.sum())) > capacity:
        raise ValueError(
            f"The buffer has a capacity of {capacity} rows, and this would make it {total}: build "
            "the learner with a larger capacity, or with when_full='forget'."
        )


def _filled(rows: PyTree, real: Array, capacity: int, when_full: WhenFull) -> RowBuffer:
    """The last `capacity` of the real rows, in their order, from the first place on."""
    total = real.sum(dtype=jnp.int32)
    wanted = jnp.maximum(total - capacity, 0) + jnp.arange(capacity, dtype=jnp.int32)
    # Row number n of the real ones is where so many have been passed; for none it is clipped.
    source = jnp.searchsorted(jnp.cumsum(real, dtype=jnp.int32), wanted + 1)

    def take(leaf: Array) -> Array:
        taken = (wanted < total).reshape(-1, *[1] * (leaf.ndim - 1))
        return jnp.where(
            taken, jnp.take(leaf, source, axis=0, mode="clip"), jnp.zeros((), leaf.dtype)
        )

    return RowBuffer(jax.tree.map(take, rows), _after(total, capacity, when_full))


def _put(w: RowBuffer, row: PyTree, real: Array, capacity: int, when_full: WhenFull) -> RowBuffer:
    """One row more in the next place, unless it is padding or there is no place."""
    goes_in = real & (w.place < capacity)

    def put(leaf: Array, new: Array) -> Array:
        # One row is read and written, and not a buffer copied.
        new = jnp.where(goes_in, new, jax.lax.dynamic_index_in_dim(leaf, w.place, keepdims=False))
        return jax.lax.dynamic_update_index_in_dim(leaf, new, w.place, 0)

    return RowBuffer(
        jax.tree.map(put, w.rows, row),
        _after(w.place + real.astype(jnp.int32), capacity, when_full),
    )


def _after(count: Array, capacity: int, when_full: WhenFull) -> Array:
    """The next place where `count` rows have been written from the first place on."""
    if when_full == "forget":
        return jnp.where(count < capacity, count, 0)
    return jnp.minimum(count, capacity + 1)
