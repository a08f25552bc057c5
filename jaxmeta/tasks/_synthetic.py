"""Families of tasks that are drawn from a formula."""

import jax
import jax.numpy as jnp

from jaxmeta._validation import check_positive
from jaxmeta.types import Array, Examples, Sampler, Task

_NUM_TASKS = 2


def sinusoids(*, shots: int = 10, queries: int = 10, noise: float = 0.0) -> Sampler:
    """A sampler of regression tasks, each a sine wave of its own amplitude and phase.

        y = amplitude * sin(x - phase)

    Args:
      shots: support rows S.
      queries: query rows Q.
      noise: standard deviation of the noise on the support targets.

    Returns:
      `sampler(key) -> Task` with x in [-5, 5] `[N, 1]` and y `[N, 1]`; amplitudes in [0.1, 5],
      phases in [0, pi]. The description is `[amplitude, phase]`.

    Raises:
      ValueError: if a count is less than 1.

    Example:
      >>> import jax
      >>> from jaxmeta.tasks import sinusoids
      >>> task = sinusoids(shots=5, queries=10)(jax.random.key(0))
      >>> task.support.x.shape, task.query.y.shape, task.description.shape
      ((5, 1), (10, 1), (2,))

    References:
      Finn, Abbeel and Levine, Model-agnostic meta-learning, arXiv:1703.03400, section 5.1.
    """
    check_positive(shots=shots, queries=queries)

    def sampler(key: Array) -> Task:
        amplitude_key, phase_key, x_key, noise_key = jax.random.split(key, 4)
        amplitude = jax.random.uniform(amplitude_key, minval=0.1, maxval=5.0)
        phase = jax.random.uniform(phase_key, maxval=jnp.pi)
        x = jax.random.uniform(x_key, (shots + queries, 1), minval=-5.0, maxval=5.0)
        y = amplitude * jnp.sin(x - phase)
        seen = y[:shots] + noise * jax.random.normal(noise_key, (shots, 1))
        return Task(
            support=Examples(x[:shots], seen, jnp.ones(shots)),
            query=Examples(x[shots:], y[shots:], jnp.ones(queries)),
            description=jnp.stack([amplitude, phase]),
        )

    return sampler


def two_tasks(
    *,
    rule: bool = True,
    seed: int = 0,
    task: int | None = None,
    shots: int = 100,
    queries: int = 100,
    features: int = 5,
) -> Sampler:
    """A sampler of one of two binary tasks, by default of 100 samples and 5 features.

    Args:
      rule: with a rule, the label of a row says on which side of the task's own plane through
        the origin the row lies. Without, labels are fair coins, and every learner stays at
        chance on fresh rows; that is the control.
      seed: draws the two planes.
      task: 0 or 1 for that task alone; None to draw one of the two.
      shots: support rows S.
      queries: query rows Q, fresh samples of the same task.
      features: features D.

    Returns:
      `sampler(key) -> Task` with standard normal x `[N, D]` and y `[N]` in {0, 1}. The
      description is the task's number, one-hot `[2]`.

    Raises:
      ValueError: if a count is less than 1, or there is no such task.

    Example:
      >>> import jax
      >>> from jaxmeta.tasks import two_tasks
      >>> task = two_tasks(shots=4, queries=6, features=5)(jax.random.key(0))
      >>> task.support.x.shape, task.query.y.shape
      ((4, 5), (6,))
    """
    check_positive(shots=shots, queries=queries, features=features)
    if task not in (None, 0, 1):
        raise ValueError(f"two_tasks has tasks 0 and 1, got task={task}.")

    def sampler(key: Array) -> Task:
        # Drawn here: what builds a sampler must not start JAX, which has to be told of other
        # processes first.
        planes = jax.random.normal(jax.random.key(seed), (_NUM_TASKS, features))
        task_key, x_key, coin_key = jax.random.split(key, 3)
        index = jax.random.randint(task_key, (), 0, _NUM_TASKS) if task is None else task
        x = jax.random.normal(x_key, (shots + queries, features))
        coins = jax.random.bernoulli(coin_key, shape=(shots + queries,))
        y = ((x @ planes[index] > 0) if rule else coins).astype(jnp.int32)
        return Task(
            support=Examples(x[:shots], y[:shots], jnp.ones(shots)),
            query=Examples(x[shots:], y[shots:], jnp.ones(queries)),
            description=jax.nn.one_hot(index, _NUM_TASKS),
        )

    return sampler
