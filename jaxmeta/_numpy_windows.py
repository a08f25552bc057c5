"""XLA's `gather` and `scatter` in NumPy: of settings, each gives a function of arrays."""

from typing import Any

import numpy as np


class _Windows:
    """Where windows of an array are that XLA's `gather` reads and its `scatter` writes."""

    def __init__(self, collapsed, start_map, batch, index_batch, sizes, fill):
        self.start_map, self.fill = start_map, fill
        self.batch = dict(zip(batch, index_batch, strict=True))
        self.sizes = sizes
        self.window = [d for d in range(len(sizes)) if d not in collapsed and d not in batch]
        self._known: dict[Any, Any] = {}

    def __call__(self, shape, starts):
        """An index a dimension, and where they are within the array; None for everywhere."""
        offsets = self._known.get((shape, starts.shape))
        if offsets is None:
            offsets = self._offsets(starts.shape)
            self._known[shape, starts.shape] = offsets
        index, valid = list(offsets), None
        for column, d in enumerate(self.start_map):
            start, last = starts[..., column], shape[d] - self.sizes[d]
            if self.fill:
                inside = (start >= 0) & (start <= last)
                valid = inside if valid is None else valid & inside
            start = np.minimum(np.maximum(start, 0), last)
            index[d] = index[d] + np.reshape(start, (*starts.shape[:-1], *(1,) * len(self.window)))
        if valid is None or np.all(valid):
            return tuple(index), None
        return tuple(index), np.reshape(valid, (*starts.shape[:-1], *(1,) * len(self.window)))

    def _offsets(self, starts):
        """What is known of the indices from shapes alone."""
        rank, offsets = len(starts) - 1 + len(self.window), []
        for d, size in enumerate(self.sizes):
            at = np.zeros((1,) * rank, np.intp)
            if d in self.batch:
                at = at + _along(self.batch[d], rank, starts[self.batch[d]])
            if d in self.window and size > 1:
                at = at + _along(len(starts) - 1 + self.window.index(d), rank, size)
            offsets.append(at)
        return offsets

    def shape(self, starts):
        return (*starts.shape[:-1], *(self.sizes[d] for d in self.window))


def _along(axis: int, rank: int, size: int) -> np.ndarray:
    return np.arange(size).reshape([-1 if place == axis else 1 for place in range(rank)])


def gather(offsets: list[int], missing: float | int | bool | str, **windows: Any):
    where = _Windows(**windows)

    def take(x, starts):
        index, valid = where(x.shape, starts)
        found = np.broadcast_to(x[index], where.shape(starts))
        if valid is not None:
            found = np.where(valid, found, np.asarray(missing, x.dtype))
        # Axes of windows go where they are asked for, those of starts to the other places.
        others = [place for place in range(found.ndim) if place not in offsets]
        order = np.argsort([*others, *offsets])
        return found.transpose(order)

    return take


def scatter(updates: list[int], by: str | None, **windows: Any):
    where = _Windows(**windows)

    def put(x, starts, values):
        index, valid = where(x.shape, starts)
        others = [place for place in range(values.ndim) if place not in updates]
        values = values.transpose([*others, *updates])
        index = tuple(np.broadcast_to(each, values.shape) for each in index)
        if valid is not None:
            valid = np.broadcast_to(valid, values.shape)
            index, values = tuple(each[valid] for each in index), values[valid]
        result = x.copy()
        if by is None:
            result[index] = values
        else:
            getattr(np, by).at(result, index, values)
        return result

    return put
