"""Sparsity: penalties, proximal operators, gates and measures, one vocabulary for all of them.

Only the floating-point leaves of `w` are parameters; labels and masks that a learner keeps in
`w` as integers or booleans are neither penalised, nor pruned, nor counted. An L1 penalty through
a network makes numbers small, not zero: exact zeros come from a proximal operator or a gate, which
`transforms.sparsify` puts behind `adapt`.
"""

from typing import TYPE_CHECKING

from jaxmeta._deprecations import renamed
from jaxmeta._tree import is_parameter, map_parameters, parameters
from jaxmeta.sparsity._descent import ProximalState, proximal
from jaxmeta.sparsity._description import description_bits, rounded
from jaxmeta.sparsity._gates import Gate, learned_threshold, masked, score_top_k
from jaxmeta.sparsity._hard_concrete import expected_l0, hard_concrete
from jaxmeta.sparsity._measures import (
    density,
    live_inputs,
    live_units,
    multiply_adds,
    nonzeros,
    num_bytes,
    size,
)
from jaxmeta.sparsity._penalties import elastic_net, group_lasso, hoyer, l1, l2_squared, log_sum
from jaxmeta.sparsity._prox import (
    elastic_threshold,
    group_threshold,
    log_threshold,
    relative,
    scale_down,
    soft_threshold,
    straight_through,
)
from jaxmeta.sparsity._ranking import Per, hard_threshold, top_k
from jaxmeta.sparsity._simplex import sparsemax
from jaxmeta.sparsity._target import TargetDensity, WithMultiplier

__all__ = [
    "Gate",
    "Per",
    "ProximalState",
    "TargetDensity",
    "WithMultiplier",
    "density",
    "description_bits",
    "elastic_net",
    "elastic_threshold",
    "expected_l0",
    "group_lasso",
    "group_threshold",
    "hard_concrete",
    "hard_threshold",
    "hoyer",
    "is_parameter",
    "l1",
    "l2_squared",
    "learned_threshold",
    "live_inputs",
    "live_units",
    "log_sum",
    "log_threshold",
    "map_parameters",
    "masked",
    "multiply_adds",
    "nonzeros",
    "num_bytes",
    "parameters",
    "proximal",
    "relative",
    "rounded",
    "scale_down",
    "score_top_k",
    "size",
    "soft_threshold",
    "sparsemax",
    "straight_through",
    "top_k",
]

if not TYPE_CHECKING:  # a checker knows the names of today alone
    __getattr__ = renamed(
        __name__,
        {
            "l2": "jaxmeta.sparsity.l2_squared",
            "only": "jaxmeta.sparsity.masked",
            "ranked": "jaxmeta.sparsity.score_top_k",
            "shrink": "jaxmeta.sparsity.scale_down",
        },
    )


def __dir__() -> list[str]:
    return __all__
