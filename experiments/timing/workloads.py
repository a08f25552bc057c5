"""The cases of the throughput kit: a learner, its arrays and its count of operations.

Each is a workload of the literature at its usual size. Where `hand_written` has the same
mathematics in one function, both start from the same theta and see the same batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.typing import DTypeLike

from jaxmeta import Examples, MetaLearner, Task, learners, losses, meta_objective, networks, tasks
from jaxmeta.types import LossFn, Network

WAYS, SHOTS, QUERIES, SIDE, FILTERS, HIDDEN = 5, 1, 15, 28, 64, 40
DESCRIPTION, CONTEXT, INPUTS, OUTPUTS, UNITS, ROWS = 32, 64, 5, 2, 64, 100
NUM_SUPPORT = 10  # of a sinusoid, and as many queries


class Case(NamedTuple):
    """One workload.

    Attributes:
      learner: whose `adapt` and `predict` are timed on their own.
      loss_fn: of the outer step.
      batch: tasks `[T, ...]`.
      flops: multiply-adds times two of one outer step, matrix products and convolutions alone.
      meta_batches: the sizes to run when none is asked for.
      inner_steps: the numbers of steps to run likewise; `(0,)` if there are none.
    """

    learner: MetaLearner
    loss_fn: LossFn
    batch: Task
    flops: float
    meta_batches: tuple[int, ...]
    inner_steps: tuple[int, ...]


def perceptron() -> Network:
    """The 1-40-40-1 perceptron's two hidden layers."""
    relu = networks.InitApply(lambda key, x: (), lambda params, x: jax.nn.relu(x))
    return networks.chain(networks.mlp([HIDDEN, HIDDEN]), relu)


def sinusoids(num_tasks: int) -> Task:
    sampler = tasks.sinusoids(shots=NUM_SUPPORT, queries=NUM_SUPPORT)
    return jax.vmap(sampler)(jax.random.split(jax.random.key(1), num_tasks))


def images(num_tasks: int, shots: int = SHOTS) -> Task:
    """Noisy copies of a random image for each class."""
    count = shots + QUERIES
    keys = jax.random.split(jax.random.key(1))
    shape = (num_tasks, WAYS, count, SIDE, SIDE, 1)
    x = 0.5 * jax.random.normal(keys[0], (*shape[:2], 1, *shape[3:]))
    x = x + 0.5 * jax.random.normal(keys[1], shape)
    y = jnp.broadcast_to(jnp.arange(WAYS)[:, None], shape[:3])

    def rows(part: slice) -> Examples:
        flat_y = y[:, :, part].reshape(num_tasks, -1)
        flat_x = x[:, :, part].reshape(*flat_y.shape, SIDE, SIDE, 1)
        return Examples(flat_x, flat_y, jnp.ones(flat_y.shape))

    return Task(rows(slice(shots)), rows(slice(shots, None)))


def described(num_tasks: int) -> Task:
    """Regression tasks whose description is random and of no use: the cost is that of any other."""
    keys = jax.random.split(jax.random.key(1), 3)
    x = jax.random.normal(keys[1], (num_tasks, ROWS, INPUTS))
    slope = jax.random.normal(keys[2], (num_tasks, INPUTS, OUTPUTS))
    rows = Examples(x, jnp.sin(x @ slope), jnp.ones((num_tasks, ROWS)))
    none = jax.tree.map(lambda leaf: leaf[:, :1], rows)
    return Task(none, rows, jax.random.normal(keys[0], (num_tasks, DESCRIPTION)))


def perceptron_flops() -> float:
    """Of one row forward."""
    return 2.0 * (HIDDEN + HIDDEN * HIDDEN + HIDDEN)


def conv4_flops() -> float:
    """Of one image forward."""
    sides = [SIDE // 2**i for i in range(4)]
    channels = [1, FILTERS, FILTERS, FILTERS]
    return sum(2.0 * side**2 * 9 * c * FILTERS for side, c in zip(sides, channels, strict=True))


def descent_flops(forward: float, support: int, query: int, steps: int, exact: bool) -> float:
    """A gradient is three forward passes; one that is differentiated again is nine."""
    return forward * ((9 if exact else 3) * steps * support + 3 * query)


def sinusoid_maml(num_tasks: int, steps: int, dtype: DTypeLike = jnp.float32) -> Case:
    network = networks.mixed_precision(perceptron(), dtype)
    learner = learners.maml(network, loss=losses.mean_squared_error, num_steps=steps, rate=0.01)
    flops = descent_flops(perceptron_flops(), NUM_SUPPORT, NUM_SUPPORT, steps, exact=True)
    return _case(
        learner, losses.mean_squared_error, sinusoids(num_tasks), flops, (25, 100, 400), (1, 5)
    )


def conv4(dtype: DTypeLike) -> Network:
    """The encoder of the image cases."""
    return networks.mixed_precision(networks.conv4(FILTERS, norm="batch"), dtype)


def conv4_maml(
    num_tasks: int, steps: int, dtype: DTypeLike = jnp.float32, exact: bool = True
) -> Case:
    learner = learners.maml(
        conv4(dtype),
        num_steps=steps,
        rate=0.1,
        ways=WAYS,
        head="separate",
        statistics="query",
        differentiate="full" if exact else "first_order",
    )
    flops = descent_flops(conv4_flops(), WAYS * SHOTS, WAYS * QUERIES, steps, exact)
    return _case(learner, losses.cross_entropy, images(num_tasks), flops, (4, 32), (1, 5))


def conv4_fomaml(num_tasks: int, steps: int, dtype: DTypeLike = jnp.float32) -> Case:
    return conv4_maml(num_tasks, steps, dtype, exact=False)._replace(inner_steps=(1,))


def embedding(build: Callable[..., MetaLearner], shots: int = SHOTS) -> Callable[..., Case]:
    """A case that trains a Conv4 embedding for learner `build`."""

    def case(num_tasks: int, steps: int, dtype: DTypeLike = jnp.float32) -> Case:
        del steps
        learner = build(networks.transductive(conv4(dtype)), ways=WAYS)
        flops = 3 * conv4_flops() * WAYS * (shots + QUERIES)
        return _case(learner, losses.cross_entropy, images(num_tasks, shots), flops, (1, 32), (0,))

    return case


def hypernet(num_tasks: int, steps: int, dtype: DTypeLike = jnp.float32) -> Case:
    """There is no network before what is emitted, hence nothing that `dtype` would change."""
    del steps, dtype
    learner = learners.hypernet(
        networks.identity(),
        out_size=OUTPUTS,
        hidden=(UNITS,),
        source="description",
        context_size=CONTEXT,
    )
    weights = (INPUTS + 1) * UNITS + (UNITS + 1) * OUTPUTS
    emitted = 2 * CONTEXT * (DESCRIPTION + CONTEXT) + CONTEXT * weights
    flops = 6.0 * (emitted + ROWS * UNITS * (INPUTS + OUTPUTS))
    return _case(learner, losses.mean_squared_error, described(num_tasks), flops, (1024,), (0,))


def shared_out(case: Case, devices: int) -> Case:
    """A case whose tasks are shared out among devices."""
    if devices == 1:
        return case
    mesh = jax.make_mesh((devices,), ("tasks",), axis_types=(AxisType.Auto,))
    return case._replace(
        batch=jax.device_put(case.batch, NamedSharding(mesh, PartitionSpec("tasks")))
    )


def _case(learner, task_loss, batch: Task, flops: float, meta_batches, inner_steps) -> Case:
    loss_fn = meta_objective(learner, task_loss, report_density=False)
    return Case(learner, loss_fn, batch, flops * len(batch.support.y), meta_batches, inner_steps)


CASES: dict[str, Callable[..., Case]] = {
    "sinusoid_maml": sinusoid_maml,
    "conv4_maml": conv4_maml,
    "conv4_fomaml": conv4_fomaml,
    "prototypes": embedding(learners.prototypes),
    "matching": embedding(learners.matching),
    "ridge": embedding(learners.ridge),
    "in_context": embedding(lambda network, ways: learners.in_context(network, size=64, ways=ways)),
    "hypernet": hypernet,
}
"""`(num_tasks, inner_steps, dtype) -> Case`; the dtype is that of the network's products."""
