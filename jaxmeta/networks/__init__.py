"""Networks: pairs `(init, apply)` over a pytree of parameters; any flax linen module is one."""

from typing import TYPE_CHECKING

from jaxmeta._deprecations import renamed
from jaxmeta._tree import Variables
from jaxmeta.networks._adapters import chain, from_nnx, identity, rms_norm, transductive
from jaxmeta.networks._core import InitApply
from jaxmeta.networks._encoders import conv4, residual
from jaxmeta.networks._mlp import mlp
from jaxmeta.networks._precision import mixed_precision
from jaxmeta.networks._task_conv import task_conv

__all__ = [
    "InitApply",
    "Variables",
    "chain",
    "conv4",
    "from_nnx",
    "identity",
    "mixed_precision",
    "mlp",
    "residual",
    "rms_norm",
    "task_conv",
    "transductive",
]

if not TYPE_CHECKING:  # a checker knows the names of today alone
    __getattr__ = renamed(
        __name__,
        {
            "PairNetwork": "jaxmeta.networks.InitApply",
            "in_precision": "jaxmeta.networks.mixed_precision",
        },
    )


def __dir__() -> list[str]:
    return __all__
