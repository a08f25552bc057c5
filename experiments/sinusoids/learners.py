"""The learners of the sinusoid experiment, by name, and what they predict after each inner step."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxmeta import MetaLearner, Task, inner, learners, losses, meta_objective, networks

INNER_STEPS = 5
INPUT_STDDEV = 10 / 12**0.5
error = losses.mean_squared_error


class Rival(NamedTuple):
    """One line of the table.

    Attributes:
      build: makes the learner; takes options of `fine_tune` if it descends.
      descends: whether there are inner steps to count.
      loss_fn: what it is trained on, made from the number of outer steps; by default the
        meta-objective on the squared error of the query rows.
      test: options of `build` at test time, if it descends.
      rate: where the outer Adam's cosine schedule starts.
    """

    build: Callable[..., MetaLearner]
    descends: bool = True
    loss_fn: Callable[[int], Any] | None = None
    test: tuple[tuple[str, Any], ...] = ()
    rate: float = 3e-3


def scaled() -> networks.InitApply:
    """Inputs, uniform in [-5, 5], brought to a variance of one: else first descents diverge."""
    return networks.InitApply(lambda key, x: (), lambda params, x: x / INPUT_STDDEV)


def body() -> networks.InitApply:
    """Two hidden layers of 40; learners put a linear layer on top."""
    relu = networks.InitApply(lambda key, x: (), lambda params, x: jax.nn.relu(x))
    return networks.chain(scaled(), networks.mlp([40, 40]), relu)


def descent(
    learner: Callable[..., MetaLearner], rate: float = 0.03, **settings: Any
) -> Callable[..., MetaLearner]:
    """A constructor of a learner by gradient, to be called with further options."""
    settings = {"network": body(), "loss": error, "num_steps": INNER_STEPS, **settings}
    return functools.partial(learner, settings.pop("network"), rate=rate, **settings)


def multi_step(build: Callable[..., MetaLearner], num_steps: int) -> Any:
    """MAML++'s objective, on the last inner step alone from half of the outer steps on."""
    return learners.multi_step_objective(build, error, multi_step_until=max(1, num_steps // 2))


def amortised(learner: Callable[..., MetaLearner], network: Any, **settings: Any) -> Rival:
    """A learner without inner steps."""
    return Rival(functools.partial(learner, network, **settings), descends=False)


def rivals() -> dict[str, Rival]:
    """The learners of the table."""
    plus_plus = descent(learners.maml_plus_plus)
    reptile = {"loss": error, "rate": 0.01, "num_steps": INNER_STEPS}
    solve = inner.Implicit(num_steps=5)
    process = functools.partial(amortised, learners.neural_process, scaled())
    context = {"network": scaled(), "hidden": (40, 40), "context_size": 5}
    # Without support rows this is regression on x alone, of all tasks pooled.
    pooled = meta_objective(learners.learned_init(body()), error)
    return {
        "maml": Rival(descent(learners.maml, 0.01), rate=1e-2),
        "fomaml": Rival(descent(learners.fomaml, 0.01), rate=1e-2),
        "anil": Rival(descent(learners.anil)),
        "meta_sgd": Rival(descent(learners.meta_sgd), rate=1e-3),
        "cavia": Rival(descent(learners.cavia, 0.5, **context), rate=1e-2),
        "imaml": Rival(
            descent(
                learners.imaml,
                tx=optax.sgd(0.001, momentum=0.9, nesterov=True),  # to converge in these steps
                num_steps=30,
                proximity=2.0,
                differentiate=solve,
            ),
            rate=1e-3,  # a gradient that cannot see the steps lets the curvature outgrow them
            test=(("differentiate", "full"),),  # the implicit gradient has no trajectory
        ),
        "reptile": Rival(
            descent(learners.reptile, **reptile),
            loss_fn=lambda num_steps: learners.reptile_objective(body(), **reptile),
            rate=1e-2,
        ),
        "maml_plus_plus": Rival(plus_plus, loss_fn=functools.partial(multi_step, plus_plus)),
        "conditional_process": process(),
        "attentive_process": process(attention=True)._replace(rate=1e-2),
        "latent_process": process(latent=32),
        "ridge": amortised(learners.ridge, body(), regulariser=0.1)._replace(rate=1e-2),
        "in_context": amortised(learners.in_context, scaled(), size=32),
        "transfer": Rival(descent(learners.maml), loss_fn=lambda num_steps: pooled),
    }


def predictions(
    rival: Rival, theta: Any, task: Task, x: jax.Array, most_steps: int, **options: Any
) -> jax.Array:
    """What a learner says at `x [N, 1]` after 0, 1, ... K inner steps, `[K + 1, N, D]`.

    `[1, N, D]` if it takes none. The options are those of `rival.build`.
    """
    given = (theta, task.support)
    if not rival.descends:
        learner = rival.build()
        return learner.predict(theta, learner.adapt(*given), x)[None]
    options = {**dict(rival.test), **options}
    start = rival.build(**{**options, "num_steps": 1, "count": lambda support: 0})
    path = rival.build(**{**options, "num_steps": most_steps, "trajectory": True})
    first = path.predict(theta, start.adapt(*given), x)[None]
    rest = jax.vmap(lambda w: path.predict(theta, w, x))(path.adapt(*given))
    return jnp.concatenate([first, rest])


def errors(
    rival: Rival, theta: Any, batch: Task, most_steps: int, rates: tuple[float, ...] = ()
) -> jax.Array:
    """Squared error of each of T tasks after each number of inner steps, `[T, K + 1]`.

    `[R, T, K + 1]` if there are R step sizes to try.
    """

    def of_task(task: Task, **options: Any) -> jax.Array:
        z = predictions(rival, theta, task, task.query.x, most_steps, **options)
        return jax.vmap(lambda z: error(z, task.query.y, task.query.mask))(z)

    def of_batch(**options: Any) -> jax.Array:
        return jax.lax.map(functools.partial(of_task, **options), batch, batch_size=25)

    if not rates:
        return jax.jit(of_batch)()
    return jax.lax.map(lambda rate: of_batch(rate=rate), jnp.asarray(rates))
