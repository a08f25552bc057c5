"""From the rows and names of a task to a linear head: the one formula, for NumPy and for JAX.

Whoever fits a head waits for no compiler, and whoever trains theta differentiates the same lines:
`xp` is `numpy` or `jax.numpy`.
"""

from typing import Any, NamedTuple

NUM_STEPS = 5
"""Gradient steps from the prototypes; more of them gained nothing on validation classes."""

_SHARPNESS = 10.0  # of the soft maximum by which classes are near each other
_TINY = 1e-12


class HeadTheta(NamedTuple):
    """What is learned from past classes: scalars, which mean the same for any features.

    Attributes:
      name: logarithm of how many rows a name weighs as.
      centre_share: how much of the task's centre is taken off its rows, before the sigmoid.
      centre_rows: logarithm of how many rows the centre of the names weighs as.
      scale: logarithm of the scale of the logits, with what is added to it
      scale_shots: times the logarithm of one more than the mean shots,
      scale_ways: times that of the ways, over ten,
      scale_near: times how near the classes are to each other,
      scale_named: times the share of the classes that have a name.
      step: logarithm of the size of a gradient step.
      momentum: of the steps, before the sigmoid.
      cool: logarithm of what logits are multiplied by inside of the steps: prototypes have read
        the rows that the steps read, and are too sure of them.
      name_row: logarithm of the weight of a name among the rows that the steps read.
      full_rows: logarithm of how many rows of a class can weigh, in all.
    """

    name: Any
    centre_share: Any
    centre_rows: Any
    scale: Any
    scale_shots: Any
    scale_ways: Any
    scale_near: Any
    scale_named: Any
    step: Any
    momentum: Any
    cool: Any
    name_row: Any
    full_rows: Any


START = HeadTheta(
    name=0.2,
    centre_share=1.1,
    centre_rows=1.5,
    scale=2.7,
    scale_shots=0.0,
    scale_ways=0.4,
    scale_near=-0.25,
    scale_named=0.0,
    step=0.0,
    momentum=0.0,
    cool=-0.7,
    name_row=0.0,
    full_rows=2.0,
)
"""Where training starts."""


class Head(NamedTuple):
    """What predicts: `logits = unit(unit(x) - origin) @ kernel.T`.

    Attributes:
      kernel: `[C, D]`, zeros for classes that are not there.
      origin: `[D]`.
      prototypes: where the steps began, of unit length `[C, D]`.
      present: which classes have a row or a name `[C]`.
    """

    kernel: Any
    origin: Any
    prototypes: Any
    present: Any


def unit(xp: Any, rows: Any) -> Any:
    """Rows of length one; those of zeros stay."""
    length = xp.sqrt(xp.maximum(xp.einsum("...i,...i->...", rows, rows), _TINY))
    return rows * (1.0 / length)[..., None]


def emit(xp: Any, theta: HeadTheta, x: Any, members: Any, names: Any, known: Any) -> Head:
    """The head of one task.

        prototype_c = unit(n_c * mean_c + name * e_c), from the centre of the rows, of the names
        V <- momentum * V - step * sum_i weight_i * (softmax(cool * W x_i) - y_i) x_i^T
        W <- W + V, from W = scale * prototypes

    Args:
      xp: `numpy` or `jax.numpy`.
      theta: scalars.
      x: rows of unit length `[S, D]`, zeros where padded.
      members: 1 where a row is of a class `[S, C]`.
      names: vectors of the names in the space of the rows, of unit length `[C, D]`, zeros for none.
      known: 1 where a class has a name `[C]`.
    """
    counts = members.sum(0)
    seen, present = xp.minimum(counts, 1.0), xp.maximum(xp.minimum(counts, 1.0), known)
    means = (members.T @ x) / xp.maximum(counts, 1.0)[:, None]
    name_centre, centre = _centres(xp, theta, means, seen, counts.sum(), names, known)
    share = 1.0 / (1.0 + xp.exp(-theta.centre_share))
    origin, rest = share * centre, (1.0 - share) * centre
    name_rows = (names - name_centre[None] + rest[None]) * known[:, None]
    weight = xp.exp(theta.name) * known
    sums = (means - origin[None]) * counts[:, None] + weight[:, None] * name_rows
    prototypes = unit(xp, sums / xp.maximum(counts + weight, _TINY)[:, None])
    scale = xp.exp(_log_scale(xp, theta, prototypes, present, counts.sum(), known.sum()))
    rows = unit(xp, xp.concatenate([x - origin[None], name_rows]))
    full = xp.exp(theta.full_rows)
    of_class = (1.0 + full) / (counts + full)
    weights = xp.concatenate([members @ of_class, xp.exp(theta.name_row) * known])
    own = xp.eye(len(counts), dtype=members.dtype) * known[None]
    labels = xp.concatenate([members.T, own], axis=1)
    kernel = _descend(xp, theta, scale * prototypes, rows, labels, weights, present)
    return Head(kernel * present[:, None], origin, prototypes * present[:, None], present)


def _centres(
    xp: Any, theta: HeadTheta, means: Any, seen: Any, num_rows: Any, names: Any, known: Any
) -> tuple[Any, Any]:
    """The centres of the names and of the rows `[D]`, each drawn to the other where few tell it."""
    any_rows, any_name = xp.minimum(seen.sum(), 1.0), xp.minimum(known.sum(), 1.0)
    of_rows = (means * seen[:, None]).sum(0) / xp.maximum(seen.sum(), 1.0)
    of_names = (names.sum(0) + of_rows) / xp.maximum(known.sum() + any_rows, 1.0)
    drawn = xp.exp(theta.centre_rows) * any_name
    return of_names, (num_rows * of_rows + drawn * of_names) / xp.maximum(num_rows + drawn, _TINY)


def _log_scale(
    xp: Any, theta: HeadTheta, prototypes: Any, present: Any, num_rows: Any, num_names: Any
) -> Any:
    """The logarithm of the scale of the logits: of shots, ways, names, and how near classes are."""
    ways = xp.maximum(present.sum(), 1.0)
    others = present[:, None] * present[None] * (1.0 - xp.eye(len(present), dtype=present.dtype))
    alike = (xp.exp(_SHARPNESS * (prototypes @ prototypes.T - 1.0)) * others).sum(1)
    near = xp.log(xp.maximum(alike, _TINY) / xp.maximum(ways - 1.0, 1.0)) + _SHARPNESS
    return (
        theta.scale
        + theta.scale_shots * xp.log(1.0 + num_rows / ways)
        + theta.scale_ways * xp.log(ways / 10.0)
        + theta.scale_near * (near * present).sum() / ways
        + theta.scale_named * num_names / ways
    )


def _descend(
    xp: Any, theta: HeadTheta, kernel: Any, rows: Any, labels: Any, weights: Any, present: Any
) -> Any:
    """A few steps of logistic regression, from the prototypes, on the rows and the names."""
    cool, step = xp.exp(theta.cool), xp.exp(theta.step)
    momentum = 1.0 / (1.0 + xp.exp(-theta.momentum))
    # Classes before rows: sums over classes then run along memory, which halves the time in NumPy.
    weights = (cool * step) * weights[None]
    labels = labels * weights
    # What the steps add to the kernel is `change @ rows`; they need it on the rows alone.
    few_rows = len(rows) < kernel.shape[1]
    inner = rows @ rows.T if few_rows else None
    start = (cool * kernel) @ rows.T - (1e9 * (1.0 - present))[:, None]
    change = velocity = 0.0 * labels
    for i in range(NUM_STEPS):
        z = start
        if i:
            z = start + (change @ inner if few_rows else (change @ rows) @ rows.T)
        p = xp.exp(z - z.max(0)[None])
        velocity = momentum * velocity - (p * (weights / p.sum(0)[None]) - labels)
        change = change + velocity
    return kernel + (change / cool) @ rows


def logits(xp: Any, head: Head, x: Any) -> Any:
    """`z [N, C]` of rows of unit length `[N, D]`; what absent classes get is for others to say."""
    return unit(xp, x - head.origin[None]) @ head.kernel.T
