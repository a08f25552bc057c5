"""Meta-learners: one file a family, each a constructor of a `MetaLearner`."""

from jaxmeta.learners.cavia import cavia
from jaxmeta.learners.gradient import (
    anil,
    fomaml,
    imaml,
    maml,
    maml_plus_plus,
    meta_sgd,
    reptile,
    reptile_objective,
)
from jaxmeta.learners.hypernet import hypernet
from jaxmeta.learners.in_context import in_context
from jaxmeta.learners.learned_init import learned_init
from jaxmeta.learners.matching import matching
from jaxmeta.learners.multi_step import multi_step_objective
from jaxmeta.learners.nearest_neighbour import nearest_neighbour
from jaxmeta.learners.neural_process import neural_process
from jaxmeta.learners.prototypes import prototypes
from jaxmeta.learners.relation import relation
from jaxmeta.learners.ridge import ridge
from jaxmeta.learners.tabular import (
    EmittedTable,
    TableDescription,
    table_description,
    table_examples,
    tabular,
)
from jaxmeta.learners.transfer import pretrain_objective, transfer

__all__ = [
    "EmittedTable",
    "TableDescription",
    "anil",
    "cavia",
    "fomaml",
    "hypernet",
    "imaml",
    "in_context",
    "learned_init",
    "maml",
    "maml_plus_plus",
    "matching",
    "meta_sgd",
    "multi_step_objective",
    "nearest_neighbour",
    "neural_process",
    "pretrain_objective",
    "prototypes",
    "relation",
    "reptile",
    "reptile_objective",
    "ridge",
    "table_description",
    "table_examples",
    "tabular",
    "transfer",
]
