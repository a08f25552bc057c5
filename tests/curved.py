"""An inner problem with a curvature that is not constant, and places where a gradient is zero."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta import inner

START = {"a": np.array([[0.3, -0.2], [0.5, 0.1], [-0.4, 0.6]]), "b": np.array([0.2, -0.4])}
ZERO = {  # Where the inner gradient is zero: 1.
    "nowhere": {"a": np.zeros((3, 2)), "b": np.zeros(2)},
    "everywhere": {"a": np.ones((3, 2)), "b": np.ones(2)},
    "a leaf": {"a": np.ones((3, 2)), "b": np.zeros(2)},
    "a unit": {"a": np.array([[1.0, 0]] * 3), "b": np.array([1.0, 0])},
    "an entry": {"a": np.array([[1.0, 0], [0, 0], [0, 0]]), "b": np.zeros(2)},
}


def objective(w, target):
    """Least at the target, with a curvature that is not constant."""
    gaps = jax.tree.leaves(jax.tree.map(jnp.subtract, w, target))
    return sum(jnp.sum(0.5 * gap**2 + 0.1 * gap**3) for gap in gaps)


def outer(theta, tx, num_steps=3, mode="full", objective=objective):
    w = inner.descend(objective, *theta, inner.Descent(tx, num_steps, mode))
    return sum(jnp.sum(jnp.sin(3 * leaf + 1)) for leaf in jax.tree.leaves(w))


def thetas(dtype, patterns=ZERO):
    """`(start, target)` for each pattern, and for a start of zeros that fits exactly."""
    start = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), START)
    pairs = []
    for zero in patterns.values():
        gap = jax.tree.map(
            lambda leaf, z: (1 - z) * (0.31 + 0.07 * np.arange(leaf.size).reshape(leaf.shape)),
            START,
            zero,
        )
        pairs.append((start, jax.tree.map(lambda s, d: s + d.astype(dtype), start, gap)))
    nothing = jax.tree.map(jnp.zeros_like, start)
    pairs.append((nothing, nothing))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *pairs)
