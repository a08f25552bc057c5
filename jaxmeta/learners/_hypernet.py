"""Hypernetworks: the meta-net reads the task and emits every weight of a small perceptron."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta._absent import with_absent
from jaxmeta._examples import mean_of, one_hot_labels, read_support
from jaxmeta._precision import as_one_dtype, wide
from jaxmeta._tree import Variables
from jaxmeta._validation import check_positive
from jaxmeta.learners._emission import Layer, emit_layers, emitters_init
from jaxmeta.learners._prototypes import Prototypes, class_means, joined_means
from jaxmeta.networks._core import encoder, features_like, unit_rms
from jaxmeta.networks._mlp import mlp, mlp_apply
from jaxmeta.types import Array, Examples, MetaLearner, Network, PyTree, Task


class EmittedMLP(NamedTuple):
    """`w` of a hypernetwork: a perceptron.

    Attributes:
      layers: of each layer `kernel [in, out]` and `bias [out]`.
      present: which outputs are in use, bool `[C]`.
      read: what it was emitted from, for `extend`; it is no parameter. None for one that is not
        extendable.
    """

    layers: tuple[Layer, ...]
    present: Array
    read: Variables | None = None


class _Read(NamedTuple):
    """What the meta-net has read.

    Attributes:
      rows: means of phi over the rows of each class `[C, E]`, and their numbers; in regression over
        all rows, as of one class. None if it reads no rows.
      description: what it made of the description `[E]`; None if it reads none.
    """

    rows: Prototypes | None
    description: Array | None


def hypernet(
    network: Network,
    *,
    out_size: int,
    hidden: Sequence[int] = (32,),
    source: Literal["support", "description", "both"] = "support",
    rank: int | None = None,
    context_size: int = 64,
    extendable: bool = False,
) -> MetaLearner:
    """Emit all weights of a small perceptron from the support set, a description, or both.

        r_i = phi(network(x_i), y_i)                 a set encoder: the order plays no part
        context = mean of r_i, and a perceptron of the description
        w = emit(context);  z = perceptron_w(network(x))

    In classification r_i does not see the label: the rows are averaged class by class, and the
    output weights of a class are emitted from its own average. Classes are thus interchangeable,
    and a task may have any number of them up to `out_size`.

    Args:
      network: shared features, `[N, ...] -> [N, F]`; `networks.identity()` for none.
      out_size: outputs of the perceptron: the most ways C, or target dimensions D.
      hidden: sizes of its hidden layers.
      source: what the meta-net reads.
      rank: None emits each kernel `[in, out]` entry by entry; a number emits the factors of a
        kernel of that rank.
      context_size: size E of a context.
      extendable: whether further rows can join `w` (`extend`), which is then emitted anew. `w`
        carries the means that it was emitted from, as constants: no parameters, and in no density.

    Returns:
      A learner whose `z` is `[N, out_size]`; `adapt` needs `description=` if it reads one.

    Raises:
      ValueError: for another `source`, one that reads no rows if it is to be extendable, or a
        network normalised by batch statistics (wrap it in `networks.transductive`); in `adapt`, if
        the task has more classes than `out_size`.

    Example:
      >>> import jax
      >>> from jaxmeta import learners, networks, tasks
      >>> task = tasks.two_tasks(shots=10, queries=6)(jax.random.key(0))
      >>> learner = learners.hypernet(networks.identity(), out_size=2)
      >>> theta = learner.init(jax.random.key(1), task)
      >>> w = learner.adapt(theta, task.support)
      >>> learner.predict(theta, w, task.query.x).shape
      (6, 2)

    References:
      Ha, Dai and Le, HyperNetworks, arXiv:1609.09106.
      Zaheer et al., Deep sets, arXiv:1703.06114.
    """
    check_positive(out_size=out_size, context_size=context_size)
    if source not in ("support", "description", "both"):
        raise ValueError(
            f"hypernet reads 'support', 'description' or 'both', got source={source!r}."
        )
    if extendable and source == "description":
        raise ValueError("A hypernet that reads a description alone cannot be extended by rows.")
    network = encoder(network, "hypernet")
    phi, describe = (mlp([2 * context_size, context_size]) for _ in range(2))
    reads_support, reads_description = source != "description", source != "support"

    def init(key: Array, task: Task) -> PyTree:
        network_key, row_key, text_key, emit_key = jax.random.split(key, 4)
        theta = {"network": network.init(network_key, task.support.x)}
        features = features_like(network, theta["network"], task.support.x)
        if reads_support:
            theta["phi"] = phi.init(row_key, _rows(features, task.support.y))
        if reads_description:
            theta["describe"] = describe.init(text_key, _vector(task.description))
        of_task = (reads_support + reads_description) * context_size
        of_class = context_size if reads_support and task.support.y.ndim == 1 else 0
        sizes = [features.shape[-1], *hidden, out_size]
        theta["emit"] = emitters_init(emit_key, sizes, of_task, of_class, rank)
        return theta

    def read_rows(theta: PyTree, rows: Examples, key: Array | None = None) -> Prototypes:
        features = network.apply(theta["network"], rows.x, key=key)
        return _means(phi.apply(theta["phi"], _rows(features, rows.y)), rows, out_size)

    def emit(theta: PyTree, read: _Read, by_class: bool) -> EmittedMLP:
        context, classes, present = _contexts(read, out_size, by_class)
        known = Variables({"value": read}, constants={"value"}) if extendable else None
        return EmittedMLP(emit_layers(theta["emit"], context, classes, present), present, known)

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> EmittedMLP:
        support = read_support(support, out_size, network)
        rows, text = read_rows(theta, support, key) if reads_support else None, None
        if reads_description:
            text = describe.apply(theta["describe"], _vector(description))[0]
        return emit(theta, _Read(rows, text), reads_support and support.y.ndim == 1)

    def extend(theta: PyTree, w: EmittedMLP, examples: Examples) -> EmittedMLP:
        rows = read_support(examples, out_size, network, may_be_empty=True)
        read = w.read["value"]  # pyrefly: ignore
        read = read._replace(rows=joined_means(read.rows, read_rows(theta, rows)))
        return emit(theta, read, rows.y.ndim == 1)

    def predict(theta: PyTree, w: EmittedMLP, x: Array) -> Array:
        z = mlp_apply(w.layers, network.apply(theta["network"], x))
        return with_absent(z, w.present)

    return MetaLearner(init, adapt, predict, extend if extendable else None)


def _rows(features: Array, y: Array) -> Array:
    """What phi reads of each row: its features, and its targets in regression."""
    return features if y.ndim == 1 else jnp.concatenate(as_one_dtype(features, wide(y)), axis=-1)


def _means(values: Array, rows: Examples, out_size: int) -> Prototypes:
    """Means of phi over the rows of each class; in regression over all rows, as of one class."""
    if rows.y.ndim == 1:
        return class_means(values, one_hot_labels(rows, out_size))
    real = rows.mask.astype(bool)
    return Prototypes(mean_of(values, real)[None], real.sum(dtype=jnp.int32)[None])


def _contexts(read: _Read, out_size: int, by_class: bool) -> tuple[Array, Array | None, Array]:
    """What is emitted from: context of the task, of each class, and which outputs are in use."""
    task, classes, present = [], None, jnp.ones(out_size, bool)
    if read.rows is not None:
        if by_class:
            classes, present = read.rows.means, read.rows.present
        task.append(read.rows.means[0] if classes is None else mean_of(classes, present))
    if read.description is not None:
        task.append(read.description)
    return unit_rms(jnp.concatenate(task)), classes, present


def _vector(description: PyTree) -> Array:
    """A description as one row `[1, P]`."""
    if description is None:
        raise ValueError(
            "This hypernet reads a description, and the task has none: set Task.description to a "
            "vector [P], or build the hypernet with source='support'."
        )
    return jnp.asarray(description, jnp.float32).reshape(1, -1)
