"""Is it right: convolutions and their derivatives, inner loops, learners, transfers, donation."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import meta_gradients
from experiments.devices.stages import Failed, Item, Row, Setting
from jaxmeta import (
    Examples,
    MetaLearner,
    Task,
    learners,
    losses,
    make_step,
    meta_objective,
    networks,
    sample_tasks,
    scan_steps,
    tasks,
    training,
)
from jaxmeta.networks import task_conv

TOLERANCE = {"float32": 2e-5, "bfloat16": 3e-2}
"""Of a convolution, the largest error over the largest number; products in full precision."""

OF_A_STEP = 1e-3
"""Of gradients and steps, device against CPU, products in full precision."""

FORMULATIONS = (None, "loop", "grouped", "patches")
_NET = networks.mlp([16])
WAYS = 3
LEARNERS: dict[str, MetaLearner] = {
    "matching": learners.matching(_NET, ways=WAYS),
    "prototypes": learners.prototypes(_NET, ways=WAYS),
    "ridge": learners.ridge(_NET, ways=WAYS),
    "maml": learners.maml(_NET, num_steps=2, rate=0.3, ways=WAYS),
    "hypernet": learners.hypernet(_NET, out_size=WAYS, hidden=(8,), context_size=8),
    "relation": learners.relation(_NET, hidden=(8,), ways=WAYS),
    "in_context": learners.in_context(_NET, size=8, num_heads=2, ways=WAYS),
    "transfer": learners.transfer(_NET, num_classes=WAYS, ways=WAYS),
    "fomaml": learners.fomaml(_NET, num_steps=2, rate=0.3, ways=WAYS),
    "anil": learners.anil(_NET, num_steps=2, rate=0.3, ways=WAYS),
    "meta_sgd": learners.meta_sgd(_NET, num_steps=2, rate=0.3, ways=WAYS),
    "maml_plus_plus": learners.maml_plus_plus(_NET, num_steps=2, rate=0.3, ways=WAYS),
    "cavia": learners.cavia(_NET, num_steps=2, hidden=(), context_size=3, ways=WAYS),
    "imaml": learners.imaml(_NET, num_steps=20, rate=0.1, proximity=2.0, ways=WAYS),
    "reptile": learners.reptile(_NET, num_steps=2, rate=0.3, ways=WAYS),
    "neural_process": learners.neural_process(
        _NET, representation_size=8, hidden=(8,), num_heads=2
    ),
}
"""One of each family, small; `neural_process` for regression."""


def items(setting: Setting) -> Iterator[Item]:
    for dtype in TOLERANCE:
        for formulation in FORMULATIONS:
            name = f"task_conv, {formulation or 'by default'}, {dtype}"
            yield Item(name, partial(convolution, formulation, dtype, setting.seed))
    yield Item("scan without transfers", partial(scan_without_transfers, setting.seed))
    yield Item("donation", partial(donation, setting.seed))
    for mode in meta_gradients.MODES:
        yield Item(f"gradient, {mode}", partial(inner_loop, mode, setting.seed))
    for name, learner in LEARNERS.items():
        yield Item(f"step, {name}", partial(outer_step, name, learner, setting.seed))


def convolution(formulation: Any, dtype: str, seed: int) -> Row:
    """Values, gradients, and products with second derivatives, pure and mixed, against NumPy.

    Of `|conv(x, k)|^2 / 2` all of them are convolutions and their kernel gradients again.
    """
    rng = np.random.default_rng(seed)
    x, dx = rng.normal(size=(2, 3, 2, 7, 7, 5))
    kernel, dk = rng.normal(size=(2, 3, 3, 3, 5, 4))
    y, ydx, ydk = numpy_conv(x, kernel), numpy_conv(dx, kernel), numpy_conv(x, dk)
    want = {
        "value": y,
        "gradient": numpy_kernel_grad(x, y),
        "second": numpy_kernel_grad(x, ydk),
        "mixed": numpy_kernel_grad(dx, y) + numpy_kernel_grad(x, ydx),
    }
    conv = jax.vmap(partial(task_conv, formulation=formulation))

    def gradient(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.grad(lambda k: (conv(x, k).astype(jnp.float32) ** 2).sum() / 2)(kernel)

    @jax.jit
    def ours(x, kernel, dx, dk):
        found = {"value": conv(x, kernel), "gradient": gradient(x, kernel)}
        found["second"] = jax.jvp(lambda k: gradient(x, k), (kernel,), (dk,))[1]
        found["mixed"] = jax.jvp(lambda x: gradient(x, kernel), (x,), (dx,))[1]
        return found

    with jax.default_matmul_precision("highest"):
        got = ours(*(jnp.asarray(each, dtype) for each in (x, kernel, dx, dk)))
    errors = {}
    for name, exact in want.items():
        off = np.abs(np.asarray(got[name], np.float64) - exact).max() / np.abs(exact).max()
        errors[name] = float(off)
        if not off < TOLERANCE[dtype]:
            raise Failed(
                f"{name} of the convolution by {formulation or 'default'} is off by {off:.2g}."
            )
    return errors


def _windows(x: np.ndarray) -> np.ndarray:
    """`[B, N, H, W, C, 3, 3]`, edges padded."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))


def numpy_conv(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return np.einsum("bnhwcij,bijcf->bnhwf", _windows(x), kernel)


def numpy_kernel_grad(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.einsum("bnhwcij,bnhwf->bijcf", _windows(x), y)


def on_both(function: Callable[..., Any], *args: Any) -> float:
    """The largest difference between the device and the CPU, over the largest number.

    Raises:
      Failed: if it is not below `OF_A_STEP`, or a number is not finite, as can be seen on a CPU.
    """
    with jax.default_matmul_precision("highest"):
        here = there = jax.tree.leaves(jax.jit(function)(*args))
        if jax.default_backend() != "cpu":
            with jax.default_device(jax.devices("cpu")[0]):
                there = jax.tree.leaves(jax.jit(function)(*jax.device_get(args)))
    off = 0.0
    for ours, theirs in zip(*map(jax.device_get, (here, there)), strict=True):
        if not np.issubdtype(ours.dtype, np.floating):
            continue
        size = max(float(np.abs(theirs).max(initial=0.0)), 1e-6)
        apart = float(np.abs(ours - theirs).max(initial=0.0)) / size
        if not apart < OF_A_STEP:
            raise Failed(f"device and CPU differ by {apart:.2g} of the largest number.")
        off = max(off, apart)
    return off


def inner_loop(mode: str, seed: int) -> Row:
    """The meta-gradient of one way to differentiate, on the device and on the CPU."""
    keys = jax.random.split(jax.random.key(seed), 3)
    batch = sample_tasks(tasks.sinusoids(), keys[0], 4)
    learner = learners.learned_init(meta_gradients.body())
    theta = learner.init(keys[1], jax.tree.map(lambda leaf: leaf[0], batch))
    gradient = meta_gradients.meta_gradient(mode, 3)
    return {"off": on_both(gradient, theta, batch, jax.random.split(keys[2], 4))}


def outer_step(name: str, learner: MetaLearner, seed: int) -> Row:
    """theta and loss after one outer step, on the device and on the CPU."""
    regression = name == "neural_process"
    loss = losses.gaussian_nll if regression else losses.cross_entropy
    sampler = tasks.sinusoids(shots=6, queries=6) if regression else clusters
    keys = jax.random.split(jax.random.key(seed), 2)
    batch = sample_tasks(sampler, keys[0], 4)
    tx = optax.sgd(0.1)
    state = training.init(learner, tx, keys[1], jax.tree.map(lambda leaf: leaf[0], batch))
    step = make_step(meta_objective(learner, loss), tx)

    def moved(theta, batch):
        after, metrics = step(state._replace(theta=theta), batch)
        return after.theta, metrics["task_loss"]

    return {"off": on_both(moved, state.theta, batch)}


def clusters(key: jax.Array) -> Task:
    """A task of three Gaussian clusters in four dimensions."""
    centre, noise = jax.random.split(key)
    y = jnp.arange(12) % WAYS
    x = 2.0 * jax.random.normal(centre, (WAYS, 4))[y] + jax.random.normal(noise, (12, 4))
    rows = [Examples(x[part], y[part], jnp.ones(6)) for part in (slice(6), slice(6, 12))]
    return Task(*rows)


def _run(seed: int) -> tuple[Callable, Any]:
    learner, tx = LEARNERS["prototypes"], optax.adam(1e-3)
    key = jax.random.key(seed)
    state = training.init(learner, tx, key, clusters(key))
    step = make_step(meta_objective(learner, losses.cross_entropy), tx)
    return scan_steps(step, clusters, num_steps=5, tasks_per_step=4), state


def scan_without_transfers(seed: int) -> Row:
    """A compiled run of outer steps asks nothing of the host."""
    steps, state = _run(seed)
    run = jax.jit(steps)
    jax.block_until_ready(run(state))
    with jax.transfer_guard("disallow"):
        state, metrics = jax.block_until_ready(run(state))
    if not np.isfinite(np.asarray(metrics["task_loss"])).all():
        raise Failed("the losses of a scanned run are not finite.")
    return {"steps": int(state.step)}


def donation(seed: int) -> Row:
    """A state that is given away is gone, and its memory with it."""
    steps, state = _run(seed)
    run = jax.jit(steps, donate_argnums=0)
    jax.block_until_ready(run(state))
    kept = [leaf for leaf in jax.tree.leaves(state.theta) if not leaf.is_deleted()]
    if kept:
        raise Failed(f"{len(kept)} arrays of a donated state are still there.")
    return {"given_away": len(jax.tree.leaves(state.theta))}
