"""Meta-learners: one file a family, each a constructor of a `MetaLearner`."""

from jaxmeta.learners.hypernet import hypernet
from jaxmeta.learners.matching import matching
from jaxmeta.learners.nearest_neighbour import nearest_neighbour
from jaxmeta.learners.prototypes import prototypes
from jaxmeta.learners.transfer import pretrain_objective, transfer

__all__ = [
    "hypernet",
    "matching",
    "nearest_neighbour",
    "pretrain_objective",
    "prototypes",
    "transfer",
]
