"""Learners on fingerprints and known labels: small perceptrons under five families."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxmeta import learners, networks
from jaxmeta.networks import InitApply
from jaxmeta.types import Array, MetaLearner

FAMILIES = ("prototypes", "ridge", "anil", "in_context", "hypernet")


def encoder(num_bytes: int, sizes: tuple[int, ...]) -> InitApply:
    """A perceptron on rows of a `Table`: bits to numbers, known labels to -1, 0 or 1.

    Known labels also go past the perceptron, each times its own gain.
    """
    inner = networks.mlp(sizes)

    def read(x: Array) -> tuple[Array, Array]:
        bits = jnp.unpackbits(x[:, :num_bytes].astype(jnp.uint8), axis=1).astype(jnp.float32)
        codes = x[:, num_bytes:].astype(jnp.float32)
        return bits, jnp.where(codes > 0, 2.0 * codes - 3.0, 0.0)

    def init(key: Array, x: Array) -> dict[str, Any]:
        bits, signs = read(x)
        body = inner.init(key, jnp.concatenate([bits, signs], axis=1))
        return {"body": body, "gain": jnp.ones(signs.shape[1])}

    def apply(params: dict[str, Any], x: Array) -> Array:
        bits, signs = read(x)
        # About one bit in forty is set: 6 gives them unit variance, as the layers expect.
        features = inner.apply(params["body"], jnp.concatenate([6.0 * bits, signs], axis=1))
        return jnp.concatenate([features, params["gain"][None] * signs], axis=1)

    return InitApply(init, apply)


def build(family: str, network: InitApply) -> MetaLearner:
    """A learner of one family, for two classes."""
    if family == "prototypes":
        return learners.prototypes(network, ways=2)
    if family == "ridge":
        return learners.ridge(network, ways=2, scale=4.0)
    if family == "anil":
        return learners.anil(network, ways=2, num_steps=5, rate=0.1, head="prototypes")
    if family == "in_context":
        return learners.in_context(network, ways=2)
    return learners.hypernet(network, out_size=2)


def with_gain(theta: Any, gain: float) -> Any:
    """theta drawn anew, with another gain of the known labels."""

    def scale(path: Any, leaf: Array) -> Array:
        return gain * leaf if "gain" in jax.tree_util.keystr(path[-1:]) else leaf

    return jax.tree_util.tree_map_with_path(scale, theta)
