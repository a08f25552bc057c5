"""Reptile: MAML's adaptation, and an objective that moves the start towards where it leads."""

from typing import Unpack

import jax
import jax.numpy as jnp
import optax

from jaxmeta._validation import check_examples
from jaxmeta.inner import LearnedOptimiser
from jaxmeta.learners._learned_init import learned_init
from jaxmeta.learners._maml import MamlOptions, check_free, maml, without_statistics
from jaxmeta.types import Array, Examples, LossFn, MetaLearner, Network, PyTree, Task


def reptile(network: Network, **options: Unpack[MamlOptions]) -> MetaLearner:
    """Adapt as MAML does, with a start that `reptile_objective` trains.

    Raises:
      ValueError: for options of parameters that would not learn: a `LearnedOptimiser`, since
        the objective does not see the steps, and `where`, since what does not move has no update.

    Args:
      network: the body, see `learned_init`.
      **options: of `maml`.

    Returns:
      A learner as `maml` returns.

    Example:
      >>> import jax
      >>> from jaxmeta import learners, networks, tasks
      >>> task = tasks.two_tasks(shots=10, queries=6)(jax.random.key(0))
      >>> learner = learners.reptile(networks.mlp([8]), ways=2, num_steps=2)
      >>> theta = learner.init(jax.random.key(1), task)
      >>> w = learner.adapt(theta, task.support)
      >>> learner.predict(theta, w, task.query.x).shape
      (6, 2)

    References:
      Nichol, Achiam and Schulman, On first-order meta-learning algorithms, arXiv:1803.02999.
    """
    check_free("reptile", options, "differentiate")
    if isinstance(options.get("tx"), LearnedOptimiser):
        raise ValueError(
            "Reptile moves theta towards the adapted weights whatever way led there: the "
            "parameters of tx would not learn. Give it an optax optimiser, or take maml."
        )
    if options.get("where") is not None:
        raise ValueError(
            "Reptile moves theta where the inner steps move w: what `where` leaves out would not "
            "learn. Leave it out, or take maml(where=...)."
        )
    return maml(network, differentiate="first_order", **options)


def reptile_objective(network: Network, **options: Unpack[MamlOptions]) -> LossFn:
    """The surrogate whose gradient in theta is Reptile's: `w_0 - w_K`, on support and query alike.

        L(theta) = 1/2 |w_0(theta) - stop_gradient(w_K)|^2

    Args:
      network: as `reptile` was given.
      **options: of `maml`, as `reptile` was given; the inner steps are on all rows of the task.

    Returns:
      `(theta, task, key) -> (loss, metrics)`, for `make_step`; `accuracy` is that of the query
      rows before they are learnt from.

    Raises:
      ValueError: as `reptile`, and for `trajectory`: the objective reads the last step.

    Example:
      >>> import jax
      >>> from jaxmeta import learners, networks, tasks
      >>> network = networks.mlp([8])
      >>> loss_fn = learners.reptile_objective(network, ways=2, num_steps=2)
      >>> task = tasks.two_tasks(shots=10, queries=6)(jax.random.key(0))
      >>> theta = learners.reptile(network, ways=2).init(jax.random.key(1), task)
      >>> loss, metrics = loss_fn(theta, task, None)
      >>> loss.shape
      ()
    """
    check_free("reptile_objective", options, "trajectory")
    learner, ways = reptile(network, **options), options.get("ways")
    start = learned_init(network, ways=ways, head=options.get("head", "shared"))

    def loss_fn(theta: PyTree, task: Task, key: Array | None) -> tuple[Array, dict[str, Array]]:
        del key
        check_examples(task.query, "query", ways=ways, takes_integers=True)
        check_examples(task.support, ways=ways, takes_integers=True)
        rows = Examples(*map(jnp.concatenate, zip(task.support, task.query, strict=True)))
        first = start.adapt(theta, rows)
        last = jax.lax.stop_gradient(learner.adapt(theta, rows))
        moved = optax.tree.sub((first.body, first.head), without_statistics(network, last))
        loss = 0.5 * optax.tree.norm(moved, squared=True)
        return loss, {"loss": loss}

    return loss_fn
