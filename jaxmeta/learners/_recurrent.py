"""A recurrent learner: `w` is what a network remembers that has read one row after the other."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta._absent import with_absent
from jaxmeta._examples import classes_there, one_hot_labels, read_support
from jaxmeta._validation import check_positive
from jaxmeta.networks._core import encoder, features_like
from jaxmeta.networks._mlp import dense, dense_init
from jaxmeta.types import Array, Examples, MetaLearner, Network, PyTree, Task


class RecurrentMemory(NamedTuple):
    """`w` of a recurrent learner: the state of each class `[C, H]`, and which there are `[C]`."""

    state: Array
    present: Array


def recurrent(
    network: Network, *, ways: int, size: int = 32, exchangeable: bool = True
) -> MetaLearner:
    """Read the rows one after the other, with one memory a class, all by the same weights.

        h_c <- GRU([1[y = c], f, 1[y = c] f, mean of h], h_c)     row by row, f = network(x)
        z_c = perceptron([h_c, mean of h, f])

    Classes are interchangeable, and rows are not: the last ones may count more. So it is the
    learner of histories: rows are what was seen and done, labels are the actions, and `predict`
    gives the logits of the next one. Its state goes on where it was (`extend`). Classes that mean
    the same in every task, such as directions, are no longer alike with `exchangeable=False`: both
    networks read which class it is, one-hot, as well.

    Args:
      network: `[N, ...] -> [N, F]`; `networks.identity()` for raw features.
      ways: number of classes C.
      size: size H of a memory.
      exchangeable: whether a class is known by its rows alone.

    Returns:
      A learner whose `z` is `[N, C]` logits. A description `[C]`, if the task has one, says which
      classes there are; otherwise all are.

    Raises:
      ValueError: for a network normalised by batch statistics (wrap it in
        `networks.transductive`); in `adapt`, for a description of another shape.

    Example:
      >>> import jax
      >>> from jaxmeta import learners, networks, tasks
      >>> task = tasks.two_tasks(shots=10, queries=6)(jax.random.key(0))
      >>> learner = learners.recurrent(networks.identity(), ways=2, size=8)
      >>> theta = learner.init(jax.random.key(1), task)
      >>> w = learner.adapt(theta, task.support, description=None)
      >>> learner.predict(theta, w, task.query.x).shape
      (6, 2)

    References:
      Duan et al., RL^2: fast reinforcement learning via slow reinforcement learning,
      arXiv:1611.02779.
      Cho et al., Learning phrase representations using RNN encoder-decoder, arXiv:1406.1078.
    """
    check_positive(ways=ways, size=size)
    network = encoder(network, "recurrent")
    names = np.eye(ways, 0 if exchangeable else ways, dtype=np.float32)

    def init(key: Array, task: Task) -> PyTree:
        network_key, gate_key, value_key, hidden_key, out_key = jax.random.split(key, 5)
        params = network.init(network_key, task.support.x)
        features = features_like(network, params, task.support.x).shape[-1]
        reads = 1 + 2 * features + 2 * size + names.shape[1]
        return {
            "network": params,
            "gates": dense_init(gate_key, reads, 2 * size, gain=1.0),
            "value": dense_init(value_key, reads, size, gain=1.0),
            "hidden": dense_init(hidden_key, reads - 1 - features, size, gain=1.0),
            "out": dense_init(out_key, size, 1, gain=1e-4),
        }

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> RecurrentMemory:
        del key
        present = classes_there(description, ways, "recurrent")
        blank = RecurrentMemory(jnp.zeros((ways, size)), present)
        return extend(theta, blank, support)

    def extend(theta: PyTree, w: RecurrentMemory, examples: Examples) -> RecurrentMemory:
        rows = read_support(examples, ways, network, classes_for="recurrent", may_be_empty=True)
        features = network.apply(theta["network"], rows.x)
        members = one_hot_labels(rows, ways).astype(features.dtype)

        def step(state: Array, row: tuple[Array, Array, Array]) -> tuple[Array, None]:
            f, member, real = row
            seen = jnp.broadcast_to(f, (ways, len(f)))
            seen = jnp.concatenate([member[:, None], seen, member[:, None] * seen], axis=1)
            moved = _gru(
                theta, jnp.concatenate([seen, _shared(state, w.present, names)], axis=1), state
            )
            return jnp.where(real > 0, moved, state), None

        state, _ = jax.lax.scan(step, w.state, (features, members, rows.mask))
        return w._replace(state=state)

    def predict(theta: PyTree, w: RecurrentMemory, x: Array) -> Array:
        features = network.apply(theta["network"], x)
        known = jnp.concatenate([w.state, _shared(w.state, w.present, names)], axis=1)
        rows = jnp.broadcast_to(features[:, None], (len(x), ways, features.shape[1]))
        known = jnp.broadcast_to(known, (len(x), *known.shape))
        hidden = dense(theta["hidden"], jnp.concatenate([known, rows], axis=-1))
        z = dense(theta["out"], jnp.tanh(hidden))[..., 0]
        return with_absent(z, w.present)

    return MetaLearner(init, adapt, predict, extend)


def _shared(state: Array, present: Array, names: np.ndarray) -> Array:
    """For each class the mean state of those that there are, and its name."""
    real = present[:, None].astype(state.dtype)
    mean = (state * real).sum(axis=0) / jnp.maximum(real.sum(), 1.0)
    mean = jnp.broadcast_to(mean, state.shape)
    return jnp.concatenate([mean, jnp.asarray(names, state.dtype)], axis=1)


def _gru(theta: PyTree, seen: Array, state: Array) -> Array:
    """One step of a gated recurrent unit, of each class: `seen [C, in]`, `state [C, H]`."""
    gates = jax.nn.sigmoid(dense(theta["gates"], jnp.concatenate([seen, state], axis=1)))
    forget, update = jnp.split(gates, 2, axis=1)
    value = jnp.tanh(dense(theta["value"], jnp.concatenate([seen, forget * state], axis=1)))
    return (1.0 - update) * state + update * value
