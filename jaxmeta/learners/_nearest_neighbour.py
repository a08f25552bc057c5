"""One nearest neighbour on the raw inputs: nothing is learned, so this is the floor."""

from jaxmeta._absent import with_absent
from jaxmeta._examples import one_hot_labels, read_support
from jaxmeta._validation import check_inputs
from jaxmeta.learners._buffer import WhenFull, buffered
from jaxmeta.learners._similarity import SupportMemory, closeness, max_by_class
from jaxmeta.networks._core import rows_of
from jaxmeta.types import Array, Examples, MetaLearner, PyTree, Task


def nearest_neighbour(
    *,
    ways: int | None = None,
    capacity: int | None = None,
    when_full: WhenFull = "refuse",
) -> MetaLearner:
    """Classify by the nearest support row, in Euclidean distance between inputs.

        z_c = -min of |x - x_i|^2 over the support rows of class c

    Args:
      ways: static number of columns of the logits; by default the number of support rows.
      capacity: remember in a buffer of so many rows, which further rows can join (`extend`); they
        may be none at first, and `ways` has to be given. None for as many as there are.
      when_full: of the buffer: `"forget"` puts a row too many in the place of the oldest;
        `"refuse"` raises ValueError, or inside `jax.jit`, where it cannot, makes every z NaN.

    Returns:
      A learner whose `z` is `[N, C]` logits. It learns nothing: its theta is empty.

    Raises:
      ValueError: for another `when_full`; in `adapt` and `extend`, for more rows than the capacity.

    Example:
      >>> import jax
      >>> from jaxmeta import learners, tasks
      >>> task = tasks.two_tasks(shots=10, queries=6)(jax.random.key(0))
      >>> learner = learners.nearest_neighbour(ways=2)
      >>> theta = learner.init(jax.random.key(1), task)
      >>> w = learner.adapt(theta, task.support)
      >>> learner.predict(theta, w, task.query.x).shape
      (6, 2)
    """

    def init(key: Array, task: Task) -> PyTree:
        del key, task
        return {}

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> SupportMemory:
        del theta, description, key
        may_be_empty = capacity is not None
        support = read_support(
            support, ways, classes_for="nearest_neighbour", may_be_empty=may_be_empty
        )
        return SupportMemory(rows_of(support.x), one_hot_labels(support, ways) > 0)

    def predict(theta: PyTree, w: SupportMemory, x: Array) -> Array:
        del theta
        check_inputs(x, takes_integers=False)
        near = closeness(rows_of(x), w.embeddings, w.members.any(axis=1))
        return with_absent(max_by_class(near, w.members), w.members.any(axis=0))

    return buffered(MetaLearner(init, adapt, predict), capacity, when_full, ways)
