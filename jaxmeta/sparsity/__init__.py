"""Sparsity: penalties, proximal operators, gates and measures, one vocabulary for all of them.

Only the floating-point leaves of `w` are parameters; labels and masks that a learner keeps in
`w` as integers or booleans are neither penalised, nor pruned, nor counted. An L1 penalty through
a network makes numbers small, not zero: exact zeros come from a proximal operator or a gate, which
`transforms.sparsify` puts behind `adapt`.
"""

from jaxmeta._tree import is_parameter, map_parameters, parameters
from jaxmeta.sparsity.descent import ProximalState, proximal
from jaxmeta.sparsity.gates import (
    Gate,
    expected_l0,
    hard_concrete,
    learned_threshold,
    only,
    ranked,
    sparsemax,
    straight_through,
)
from jaxmeta.sparsity.measures import (
    density,
    live_inputs,
    live_units,
    multiply_adds,
    nonzeros,
    num_bytes,
    size,
)
from jaxmeta.sparsity.operators import (
    Per,
    elastic_threshold,
    group_threshold,
    hard_threshold,
    log_threshold,
    relative,
    shrink,
    soft_threshold,
    top_k,
)
from jaxmeta.sparsity.penalties import elastic_net, group_lasso, hoyer, l1, l2, log_sum

__all__ = [
    "Gate",
    "Per",
    "ProximalState",
    "density",
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
    "l2",
    "learned_threshold",
    "live_inputs",
    "live_units",
    "log_sum",
    "log_threshold",
    "map_parameters",
    "multiply_adds",
    "nonzeros",
    "num_bytes",
    "only",
    "parameters",
    "proximal",
    "ranked",
    "relative",
    "shrink",
    "size",
    "soft_threshold",
    "sparsemax",
    "straight_through",
    "top_k",
]
