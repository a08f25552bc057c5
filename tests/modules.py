"""Modules of flax, with everything that is no parameter, and noise."""

import flax.linen as nn
import jax.numpy as jnp
from flax import nnx

from jaxmeta import networks


class Linen(nn.Module):
    """With frozen running statistics, and dropout where there is a stream for it."""

    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True)(nn.Dense(6)(x))
        return nn.Dropout(0.5, deterministic=not self.has_rng("dropout"))(nn.relu(x))


class LinenCounts(nn.Module):
    """With a counter and a cached value beside its parameters."""

    @nn.compact
    def __call__(self, x):
        calls = self.variable("counters", "calls", lambda: jnp.zeros((), jnp.int32))
        scale = self.variable("cache", "scale", lambda: jnp.full((1, 6), 2.0))
        return nn.Dense(6)(x) * scale.value + calls.value.astype(x.dtype)


class LinenSwitch(nn.Module):
    """Told by an argument whether to draw noise."""

    @nn.compact
    def __call__(self, x, deterministic: bool = False):
        return nn.Dropout(0.5, deterministic=deterministic)(nn.Dense(6)(x))


class Nnx(nnx.Module):
    """With everything that is no parameter."""

    def __init__(self, rngs):
        self.layer = nnx.Linear(4, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.calls = nnx.Variable(jnp.zeros((), jnp.int32))
        self.last = nnx.Linear(6, 5, rngs=rngs)

    def __call__(self, x):
        self.calls[...] = self.calls[...] + 1
        return self.last(self.drop(nnx.relu(self.norm(self.layer(x)))))


class NnxOff(Nnx):
    """The same with its dropout switched off when it was built."""

    def __init__(self, rngs):
        super().__init__(rngs)
        self.drop = nnx.Dropout(0.5, deterministic=True, rngs=rngs)


NOISY = {
    "linen": Linen(),
    "linen with a switch": LinenSwitch(),
    "nnx": networks.from_nnx(lambda rngs: Nnx(rngs)),
    "chain of linen": networks.chain(Linen(), networks.rms_norm()),
    "linen in half precision": networks.mixed_precision(Linen(), jnp.bfloat16),
}
FLAX = NOISY | {
    "linen with counters": LinenCounts(),
    "nnx switched off": networks.from_nnx(lambda rngs: NnxOff(rngs)),
}
