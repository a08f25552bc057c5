"""The vocabulary: tasks, meta-learners, networks and the training state. No logic lives here.

Letters used in every docstring: T tasks, S support rows, Q query rows, C ways, D features,
W weights of one learner.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

__all__ = [
    "AdaptFn",
    "Array",
    "Examples",
    "LossFn",
    "MetaLearner",
    "Metrics",
    "Network",
    "Penalty",
    "Prox",
    "PyTree",
    "Sampler",
    "Step",
    "Task",
    "TaskLoss",
    "TrainState",
    "Weight",
    "Where",
]

Array = jax.Array
"""An array of JAX, a traced one included."""

PyTree = Any
"""Any nesting of tuples, lists, dicts and NamedTuples with arrays at the leaves."""


class Examples(NamedTuple):
    """Labelled rows of one task.

    Attributes:
      x: inputs `[N, ...]`, floating point.
      y: integer classes `[N]` (-1 where padded, never read), or float targets `[N, D]`.
      mask: `[N]`, 1 for a real row, 0 for padding.
    """

    x: Array
    y: Array
    mask: Array


class Task(NamedTuple):
    """One task: labelled rows to adapt to, rows to be judged on, and what is known about it.

    A batch of tasks is the same tuple with a leading axis T on every leaf.
    """

    support: Examples
    query: Examples
    description: PyTree = None


class AdaptFn(Protocol):
    """The meta-net: reads one task's support set and emits `w`. Never sees the query set."""

    def __call__(
        self,
        theta: PyTree,
        support: Examples,
        *,
        description: PyTree = None,
        key: Array | None = None,
    ) -> PyTree:
        """Return `w` for one task."""
        ...


class MetaLearner(NamedTuple):
    """Every meta-learner is these three pure functions, written for ONE task; some have a fourth.

    Attributes:
      init: `(key, task) -> theta`, the meta-parameters; the task gives shapes only.
      adapt: `(theta, support, *, description=None, key=None) -> w`, the meta-net. `key=None`
        asks for the deterministic answer.
      predict: `(theta, w, x) -> z`, the learner: `x [N, ...]` to `z [N, C]` logits, or `[N, D]`
        targets. Rows are predicted independently of each other (inductive).
      extend: `(theta, w, examples) -> w`: new labelled rows join what `w` knows, without the old
        rows, as if `adapt` had read all of them; None where that cannot be had, or has to be
        asked for (`extendable`, `capacity`).
    """

    init: Callable[[Array, Task], PyTree]
    adapt: AdaptFn
    predict: Callable[[PyTree, PyTree, Array], Array]
    extend: Callable[[PyTree, PyTree, Examples], PyTree] | None = None


class Network(Protocol):
    """A pair of functions over a pytree of parameters. A flax linen module is one as it is."""

    @property
    def init(self) -> Callable[..., PyTree]:
        """`(key, x [N, ...]) -> params`."""

    @property
    def apply(self) -> Callable[..., Array]:
        """`(params, x [N, ...]) -> features [N, D]`."""


class TrainState(NamedTuple):
    """All that meta-optimisation carries from one outer step to the next.

    Attributes:
      theta: meta-parameters.
      opt_state: optax state of the outer optimiser.
      key: the root key; it never changes, the key of a step is folded in from `step`.
      step: `[]` int32, outer steps taken.
    """

    theta: PyTree
    opt_state: PyTree
    key: Array
    step: Array


Metrics = dict[str, Array]
"""Scalars by name."""

TaskLoss = Callable[[Array, Array, Array], Array]
"""`task_loss(z, y, mask) -> scalar`: a mean over the real rows; metrics have the same form."""

LossFn = Callable[..., tuple[Array, Metrics]]
"""`loss_fn(theta, task, key) -> (loss, metrics)` for one task; some are given the step as well."""

Penalty = Callable[[PyTree], Array]
"""`penalty(w) -> scalar`: a sum over the entries."""

Prox = Callable[[PyTree, float | Array], PyTree]
"""`prox(w, step) -> v`: the least of `1/2 |v - w|^2 + step * penalty(v)` over v."""

Sampler = Callable[[Array], Task]
"""`sampler(key) -> Task`: one task, a pure function of the key; `jax.vmap` makes batches."""

Step = Callable[[TrainState, Task], tuple[TrainState, Metrics]]
"""`step(state, tasks) -> (state, metrics)`: one outer step on a batch of tasks."""

Weight = float | Callable[[Array], Array]
"""A number, or an optax schedule of the outer step."""

Where = Callable[[PyTree], PyTree]
"""`where(tree) -> tree of bools`, of the same shape or a prefix of it: which leaves are meant."""
