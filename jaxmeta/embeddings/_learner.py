"""The learner of `FewShotClassifier`: `w` is a linear head, from the names and rows of a task."""

from typing import NamedTuple

import jax.numpy as jnp

from jaxmeta._absent import with_absent
from jaxmeta._examples import one_hot_labels, read_support
from jaxmeta._tree import Variables
from jaxmeta.embeddings import _formula
from jaxmeta.embeddings._formula import Head, HeadTheta
from jaxmeta.types import Array, Examples, MetaLearner, PyTree, Task


class ClassNames(NamedTuple):
    """Description of a task whose classes may have names.

    Attributes:
      vectors: of the names, in the space of the rows `[C, D]`; never read where there is none.
      known: 1 where a class has a name, 0 where it has none `[C]`.
    """

    vectors: Array
    known: Array


class NamedHead(NamedTuple):
    """`w` of `named_head`.

    Attributes:
      kernel: from features to logits `[C, D]`.
      origin: what is taken off the rows `[D]`.
      memory: what `extend` reads, no parameters: the rows, the names, who is present.
    """

    kernel: Array
    origin: Array
    memory: Variables


def named_head(*, ways: int) -> MetaLearner:
    """A linear head from a class's name, its examples, or both: closed form, then a few steps.

        W_c = scale * unit(n_c * mean_c + name * e_c), then a few steps of logistic regression
        z = W unit(x - origin)

    Rows and names are scaled to length one, and measured from the centre of the task. theta are
    scalars: how many rows a name is worth, the steps, and a scale that follows shots, ways and how
    near the classes are, so that probabilities are as sure as they should be on new tasks.

    Args:
      ways: static number of columns of the logits.

    Returns:
      A learner whose `z` is `[N, ways]` logits, with `extend`. The description is an array of
      names `[C, D]`, `ClassNames`, or None; a task may have no support row if all have names.

    Raises:
      ValueError: when adapted, if names are no `[ways, D]`, or a label is `ways` or more.

    Example:
      >>> import jax
      >>> from jaxmeta import tasks
      >>> from jaxmeta.embeddings import named_head
      >>> task = tasks.two_tasks(shots=10, queries=6)(jax.random.key(0))
      >>> learner = named_head(ways=2)
      >>> theta = learner.init(jax.random.key(1), task)
      >>> learner.predict(theta, learner.adapt(theta, task.support), task.query.x).shape
      (6, 2)
    """

    def init(key: Array, task: Task) -> HeadTheta:
        del key, task
        return HeadTheta(*(jnp.float32(value) for value in _formula.START))

    def solve(theta: HeadTheta, support: Examples, names: ClassNames) -> NamedHead:
        members = one_hot_labels(support, ways)
        x = _formula.unit(jnp, support.x.astype(members.dtype))
        vectors = jnp.where(names.known[:, None] > 0, names.vectors, 0.0)
        vectors = _formula.unit(jnp, vectors.astype(members.dtype))
        head = _formula.emit(jnp, theta, x, members, vectors, names.known.astype(members.dtype))
        memory = {"support": support, "names": names, "present": head.present}
        return NamedHead(head.kernel, head.origin, Variables(memory, memory))

    def adapt(
        theta: HeadTheta,
        support: Examples,
        *,
        description: PyTree = None,
        key: Array | None = None,
    ) -> NamedHead:
        del key
        names = _names(description, ways, support.x.shape[-1])
        support = read_support(support, ways, classes_for="named_head", may_be_empty=True)
        return solve(theta, support, names)

    def extend(theta: HeadTheta, w: NamedHead, examples: Examples) -> NamedHead:
        examples = read_support(examples, ways, classes_for="named_head", may_be_empty=True)
        pairs = zip(w.memory["support"], examples, strict=True)
        joined = Examples(*(jnp.concatenate(pair) for pair in pairs))
        return solve(theta, joined, w.memory["names"])

    def predict(theta: HeadTheta, w: NamedHead, x: Array) -> Array:
        present = w.memory["present"]
        x = _formula.unit(jnp, x.astype(w.kernel.dtype))
        z = _formula.logits(jnp, Head(w.kernel, w.origin, w.kernel, present), x)
        return with_absent(z, present > 0)

    return MetaLearner(init, adapt, predict, extend)


def _names(description: PyTree, ways: int, size: int) -> ClassNames:
    """The description as vectors and who has one."""
    if description is None:
        return ClassNames(jnp.zeros((ways, size)), jnp.zeros(ways))
    if not isinstance(description, ClassNames):
        description = ClassNames(description, jnp.ones(jnp.shape(description)[:1]))
    if jnp.shape(description.vectors) != (ways, size) or jnp.shape(description.known) != (ways,):
        raise ValueError(
            f"named_head reads names [{ways}, {size}], in the space of the rows, got "
            f"{jnp.shape(description.vectors)}."
        )
    return description
