"""Meta-learners: one file a family, each a constructor of a `MetaLearner`."""

from jaxmeta.learners.hypernet import hypernet
from jaxmeta.learners.in_context import in_context
from jaxmeta.learners.matching import matching
from jaxmeta.learners.nearest_neighbour import nearest_neighbour
from jaxmeta.learners.neural_process import neural_process
from jaxmeta.learners.prototypes import prototypes
from jaxmeta.learners.relation import relation
from jaxmeta.learners.ridge import ridge
from jaxmeta.learners.transfer import pretrain_objective, transfer

__all__ = [
    "hypernet",
    "in_context",
    "matching",
    "nearest_neighbour",
    "neural_process",
    "pretrain_objective",
    "prototypes",
    "relation",
    "ridge",
    "transfer",
]
