"""Outer steps by hand, each in one function of arrays: what the library's abstraction is held to.

The same mathematics on the same theta as the case of that name in `workloads`, without learners,
masks, objectives or transforms; the convolution alone is the library's.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxmeta import Task
from jaxmeta.networks import task_conv

Convolve = Callable[[jax.Array, jax.Array], jax.Array]
"""`(x [N, H, W, C], kernel [3, 3, C, F]) -> [N, H, W, F]`."""

RATES = {"sinusoid_maml": 0.01, "conv4_maml": 0.1, "conv4_fomaml": 0.1}
CASES = (*RATES, "prototypes")


def perceptron(theta: Any, x: jax.Array) -> jax.Array:
    (first, second), _ = theta["network"]
    for layer in (first, second, theta["head"]):
        z = x @ layer["kernel"] + layer["bias"][None]
        x = jax.nn.relu(z)
    return z


def plain_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """What stands in for the library's where a case is written without it."""
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)


def conv4(layers: Any, x: jax.Array, convolve: Convolve) -> jax.Array:
    for layer in layers:
        x = convolve(x, layer["kernel"])
        mean, square = x.mean((0, 1, 2)), jnp.square(x).mean((0, 1, 2))
        sign = jax.lax.stop_gradient(jnp.where(layer["scale"] < 0, -1.0, 1.0))[None, None, None]
        n, h, w, c = x.shape
        x = (x * sign)[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c)
        x = jnp.maximum(x[:, :, 0], x[:, :, 1])
        x = jnp.maximum(x[:, :, :, 0], x[:, :, :, 1]) * sign
        scale = jax.lax.rsqrt(square - jnp.square(mean) + 1e-5) * layer["scale"]
        x = jax.nn.relu(
            (x - mean[None, None, None]) * scale[None, None, None]
            + layer["offset"][None, None, None]
        )
    return x.reshape(len(x), -1)


def squared_error(theta: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.square(perceptron(theta, x) - y).mean()


def cross_entropy(z: jax.Array, y: jax.Array) -> jax.Array:
    return optax.losses.softmax_cross_entropy_with_integer_labels(z, y).mean()


def maml(name: str, steps: int, convolve: Convolve) -> Callable[[Any, Task], jax.Array]:
    def classify(theta: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        features = conv4(theta["network"], x, convolve)
        return cross_entropy(features @ theta["head"]["kernel"] + theta["head"]["bias"][None], y)

    loss = squared_error if name == "sinusoid_maml" else classify

    def task_loss(theta: Any, task: Task) -> jax.Array:
        def descend(w: Any, _: None) -> tuple[Any, None]:
            grad = jax.grad(loss)(w, task.support.x, task.support.y)
            if name == "conv4_fomaml":
                grad = jax.lax.stop_gradient(grad)
            return jax.tree.map(lambda p, g: p - RATES[name] * g, w, grad), None

        w, _ = jax.lax.scan(descend, theta, length=steps)
        return loss(w, task.query.x, task.query.y)

    return task_loss


def prototypes(convolve: Convolve) -> Callable[[Any, Task], jax.Array]:
    def task_loss(theta: Any, task: Task) -> jax.Array:
        rows = (task.support, task.query)
        support, query = (conv4(theta["network"], part.x, convolve) for part in rows)
        classes = jax.nn.one_hot(task.support.y, 5)
        means = classes.T @ support / classes.sum(0)[:, None]
        square = jnp.square(query).sum(1)[:, None] + jnp.square(means).sum(1)[None]
        distance = square - 2 * query @ means.T
        return cross_entropy(-jnp.exp(theta["log_scale"]) * distance, task.query.y)

    return task_loss


def task_loss_of(
    name: str, steps: int, convolve: Convolve = task_conv
) -> Callable[[Any, Task], jax.Array]:
    """`(theta, task) -> loss` of one of the `CASES`."""
    return maml(name, steps, convolve) if name in RATES else prototypes(convolve)


def make_step(task_loss: Callable[[Any, Task], jax.Array], tx: Any, chunk: int) -> Callable:
    """`(theta, opt_state, tasks) -> (theta, opt_state, loss)`, over chunks of tasks."""

    def mean_loss(theta: Any, tasks: Task) -> jax.Array:
        return jax.vmap(lambda task: task_loss(theta, task))(tasks).mean()

    def step(theta: Any, opt_state: Any, tasks: Task) -> tuple[Any, Any, jax.Array]:
        num_chunks = len(tasks.query.mask) // chunk
        value_and_grad = jax.value_and_grad(mean_loss)
        if num_chunks == 1:
            loss, grad = value_and_grad(theta, tasks)
        else:
            chunks = jax.tree.map(lambda a: a.reshape(num_chunks, chunk, *a.shape[1:]), tasks)
            zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, theta))
            add = lambda sum, part: (  # noqa: E731
                jax.tree.map(jnp.add, sum, value_and_grad(theta, part)),
                None,
            )
            total, _ = jax.lax.scan(add, zero, chunks)
            loss, grad = jax.tree.map(lambda a: a / num_chunks, total)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and numbers
            updates, opt_state = tx.update(grad, opt_state, theta)
        return optax.apply_updates(theta, updates), opt_state, loss

    return step
