"""Transfer learning, the rival to beat: train one classifier, keep its features, fit a head."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta import losses
from jaxmeta._absent import with_absent
from jaxmeta._examples import one_hot_labels, read_support
from jaxmeta._tree import Variables
from jaxmeta._validation import check_positive
from jaxmeta.learners._prototypes import class_sums
from jaxmeta.learners._similarity import unit_rows
from jaxmeta.networks._core import encoder, features_like
from jaxmeta.networks._mlp import dense, dense_init
from jaxmeta.types import Array, Examples, LossFn, MetaLearner, Network, PyTree, Task


class LinearHead(NamedTuple):
    """`w` of transfer learning: a linear map of features of length one.

    Attributes:
      kernel: `[F, C]`.
      bias: `[C]`.
      present: which classes have rows, bool `[C]`.
      lengths: of the sums that centroids are the directions of `[C]`, for `extend`; they are no
        parameters. None for a logistic head.
    """

    kernel: Array
    bias: Array
    present: Array
    lengths: Variables | None = None


def transfer(
    network: Network,
    *,
    num_classes: int,
    head: Literal["centroid", "logistic"] = "centroid",
    ways: int | None = None,
    num_steps: int = 100,
    penalty: float = 1e-3,
) -> MetaLearner:
    """Features of a network that was trained to tell all training classes apart, and a new head.

    Features are scaled to length one, in pre-training and after it.

    Args:
      network: `[N, ...] -> [N, F]`.
      num_classes: training classes K, for the classifier that `pretrain_objective` trains.
      head: `"centroid"`, the class means (nearest by cosine), or `"logistic"`, a logistic
        regression fitted to the support rows.
      ways: static number of columns of the logits; by default the number of support rows.
      num_steps: accelerated gradient steps that fit the logistic head.
      penalty: weight of half its squared norm, per support row.

    Returns:
      A learner whose `z` is `[N, C]` logits. `adapt` trains nothing but the head.

    Raises:
      ValueError: for another `head`, or a network normalised by batch statistics (wrap it in
        `networks.transductive`).

    Example:
      >>> import jax
      >>> from jaxmeta import learners, networks, tasks
      >>> task = tasks.two_tasks(shots=10, queries=6)(jax.random.key(0))
      >>> learner = learners.transfer(networks.mlp([8]), num_classes=2, ways=2)
      >>> theta = learner.init(jax.random.key(1), task)
      >>> w = learner.adapt(theta, task.support)
      >>> learner.predict(theta, w, task.query.x).shape
      (6, 2)

    References:
      Wang et al., SimpleShot: revisiting nearest-neighbor classification for few-shot learning,
      arXiv:1911.04623.
      Chen et al., A closer look at few-shot classification, arXiv:1904.04232.
    """
    check_positive(num_classes=num_classes, num_steps=num_steps)
    if head not in ("centroid", "logistic"):
        raise ValueError(f"transfer fits heads 'centroid' and 'logistic', got {head!r}.")
    network = encoder(network, "transfer")

    def init(key: Array, task: Task) -> PyTree:
        network_key, head_key = jax.random.split(key)
        params = network.init(network_key, task.support.x)
        size = features_like(network, params, task.support.x).shape[-1]
        classifier = dense_init(head_key, size, num_classes, gain=1.0)
        return {
            "network": params,
            "classifier": classifier,
            "log_scale": jnp.log(jnp.float32(10.0)),
        }

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> LinearHead:
        del description
        support = read_support(support, ways, network, classes_for="transfer")
        features = unit_rows(network.apply(theta["network"], support.x, key=key))
        features = jnp.where(support.mask.astype(bool)[:, None], features, 0.0)
        members = one_hot_labels(support, ways).astype(features.dtype)
        present = members.sum(axis=0) > 0
        if head == "centroid":
            return _centroids(members.T @ features, present)
        start = {
            "kernel": unit_rows(members.T @ features).T,
            "bias": jnp.zeros(len(present), features.dtype),
        }
        fitted = _fit_logistic(start, features, members, present, num_steps, penalty)
        return LinearHead(fitted["kernel"], fitted["bias"], present)

    def extend(theta: PyTree, w: LinearHead, examples: Examples) -> LinearHead:
        ways = len(w.present)
        rows = read_support(examples, ways, network, classes_for="transfer", may_be_empty=True)
        features = unit_rows(network.apply(theta["network"], rows.x))
        sums, counts = class_sums(features, one_hot_labels(rows, ways))
        before = w.kernel.T * w.lengths["value"][:, None]  # pyrefly: ignore
        return _centroids(before + sums, w.present | (counts > 0))

    def predict(theta: PyTree, w: LinearHead, x: Array) -> Array:
        features = unit_rows(network.apply(theta["network"], x))
        z = features @ w.kernel + w.bias[None]
        # Cosines need the temperature of pre-training; a fitted head has its own.
        z = z if head == "logistic" else jnp.exp(theta["log_scale"]) * z
        return with_absent(z, w.present)

    return MetaLearner(init, adapt, predict, extend if head == "centroid" else None)


def _centroids(sums: Array, present: Array) -> LinearHead:
    """The head of the directions of the sums `[C, F]` of the rows of each class."""
    # Sums of rows of length one are far from the largest numbers: no scaling, unlike `unit_rows`.
    squares = jnp.square(sums).sum(axis=1)
    kernel = (sums * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))[:, None]).T
    lengths = Variables({"value": jnp.sqrt(squares)}, constants={"value"})
    return LinearHead(kernel, jnp.zeros(len(present), sums.dtype), present, lengths)


def pretrain_objective(network: Network) -> LossFn:
    """What `transfer` is trained on: cross-entropy over all training classes at once.

    Args:
      network: the network that `transfer` was given.

    Returns:
      `(theta, task, key) -> (loss, metrics)`, for `make_step`. A "task" is an ordinary batch, as
      `tasks.class_batches` draws it: its query labels are training classes `[Q]` below K.

    Example:
      >>> import jax
      >>> from jaxmeta import learners, networks, tasks
      >>> network = networks.mlp([8])
      >>> learner = learners.transfer(network, num_classes=2, ways=2)
      >>> loss_fn = learners.pretrain_objective(network)
      >>> task = tasks.two_tasks(shots=10, queries=6)(jax.random.key(0))
      >>> theta = learner.init(jax.random.key(1), task)
      >>> loss, metrics = loss_fn(theta, task, None)
      >>> loss.shape
      ()
    """
    network = encoder(network, "transfer")

    def loss_fn(theta: PyTree, task: Task, key: Array | None) -> tuple[Array, dict[str, Array]]:
        features = unit_rows(network.apply(theta["network"], task.query.x, key=key))
        classifier = theta["classifier"]
        weights = {"kernel": unit_rows(classifier["kernel"].T).T, "bias": classifier["bias"]}
        z = jnp.exp(theta["log_scale"]) * dense(weights, features)
        loss = losses.cross_entropy(z, task.query.y, task.query.mask)
        return loss, {"loss": loss, "accuracy": losses.accuracy(z, task.query.y, task.query.mask)}

    return loss_fn


def _fit_logistic(
    start: PyTree, features: Array, members: Array, present: Array, num_steps: int, penalty: float
) -> PyTree:
    """Multinomial logistic regression by Nesterov's method, from the centroids."""
    num_rows = jnp.maximum(members.sum(), 1.0)

    def objective(params: PyTree) -> Array:
        z = with_absent(dense(params, features), present)
        likelihood = (members * jax.nn.log_softmax(z)).sum() / num_rows
        return 0.5 * penalty * jnp.square(params["kernel"]).sum() - likelihood

    # Rows of length one bound the curvature by (1 + 1) / 2 + penalty, bias included.
    rate = 1.0 / (1.0 + penalty)

    def step(carry: tuple[PyTree, PyTree], i: Array) -> tuple[tuple[PyTree, PyTree], None]:
        point, ahead = carry
        moved = jax.tree.map(lambda p, g: p - rate * g, ahead, jax.grad(objective)(ahead))
        momentum = i / (i + 3.0)
        ahead = jax.tree.map(lambda new, old: new + momentum * (new - old), moved, point)
        return (moved, ahead), None

    return jax.lax.scan(step, (start, start), jnp.arange(num_steps, dtype=features.dtype))[0][0]
