"""Learners on fingerprints and known labels: small perceptrons under the families of the library."""

import jax
import jax.numpy as jnp

from jaxmeta import learners, networks
from jaxmeta.networks import InitApply
from jaxmeta.types import Array, MetaLearner

FAMILIES = ("prototypes", "ridge", "anil", "in_context", "hypernet")


def encoder(num_bytes: int, sizes: tuple[int, ...], *, label_scale: float) -> InitApply:
    """A perceptron on rows of a `Table`: bits to numbers, known labels to -1, 0 or 1 times a scale."""
    inner = networks.mlp(sizes)

    def read(x: Array) -> Array:
        bits = jnp.unpackbits(x[:, :num_bytes].astype(jnp.uint8), axis=1).astype(jnp.float32)
        # About one bit in forty is set: unit variance, as the layers expect.
        codes = x[:, num_bytes:].astype(jnp.float32)
        signs = jnp.where(codes > 0, 2.0 * codes - 3.0, 0.0)
        return jnp.concatenate([6.0 * bits, label_scale * signs], axis=1)

    def init(key: Array, x: Array):
        return inner.init(key, read(x))

    def apply(params, x: Array) -> Array:
        return inner.apply(params, read(x))

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
