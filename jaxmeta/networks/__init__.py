"""Networks: pairs `(init, apply)` over a pytree of parameters; any flax linen module is one."""

from jaxmeta._tree import Variables
from jaxmeta.networks.base import (
    PairNetwork,
    chain,
    from_nnx,
    identity,
    rms_norm,
    transductive,
)
from jaxmeta.networks.conv import conv4, residual
from jaxmeta.networks.mlp import mlp
from jaxmeta.networks.precision import in_precision
from jaxmeta.networks.task_conv import task_conv

__all__ = [
    "PairNetwork",
    "Variables",
    "chain",
    "conv4",
    "from_nnx",
    "identity",
    "in_precision",
    "mlp",
    "residual",
    "rms_norm",
    "task_conv",
    "transductive",
]
