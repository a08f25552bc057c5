"""Networks: pairs `(init, apply)` over a pytree of parameters; any flax linen module is one."""

from jaxmeta.networks.base import PairNetwork, from_nnx, identity
from jaxmeta.networks.conv import conv4, residual
from jaxmeta.networks.mlp import mlp

__all__ = ["PairNetwork", "conv4", "from_nnx", "identity", "mlp", "residual"]
