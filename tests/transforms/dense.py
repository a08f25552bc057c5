"""Learners whose `w` is dense, and the numbers in a `w`."""

import numpy as np

from jaxmeta import learners, networks, sparsity

DENSE = {
    "matching": learners.matching(networks.mlp([8]), ways=3),
    "prototypes": learners.prototypes(networks.mlp([8]), ways=3),
    "hypernet": learners.hypernet(networks.identity(), out_size=3, hidden=(5,), context_size=4),
}


def numbers(w):
    return np.concatenate([np.ravel(leaf) for leaf in sparsity.parameters(w)])
