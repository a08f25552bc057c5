"""Meta-learners: one file a family, each a constructor of a `MetaLearner`."""

from typing import TYPE_CHECKING

from jaxmeta._deprecations import renamed
from jaxmeta.learners._cavia import cavia
from jaxmeta.learners._gradient import anil, fomaml, imaml, meta_sgd
from jaxmeta.learners._hypernet import hypernet
from jaxmeta.learners._in_context import in_context
from jaxmeta.learners._learned_init import learned_init
from jaxmeta.learners._maml import maml
from jaxmeta.learners._maml_plus_plus import maml_plus_plus, multi_step_objective
from jaxmeta.learners._matching import matching
from jaxmeta.learners._nearest_neighbour import nearest_neighbour
from jaxmeta.learners._neural_process import neural_process
from jaxmeta.learners._prototypes import prototypes
from jaxmeta.learners._recurrent import recurrent
from jaxmeta.learners._relation import relation
from jaxmeta.learners._reptile import reptile, reptile_objective
from jaxmeta.learners._ridge import ridge
from jaxmeta.learners._transfer import pretrain_objective, transfer

__all__ = [
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
    "recurrent",
    "relation",
    "reptile",
    "reptile_objective",
    "ridge",
    "transfer",
]

if not TYPE_CHECKING:  # a checker knows the names of today alone
    __getattr__ = renamed(
        __name__,
        {
            "EmittedTable": "jaxmeta.tabular.meta_net.EmittedTable",
            "TableDescription": "jaxmeta.tabular.meta_net.TableDescription",
            "table_description": "jaxmeta.tabular.meta_net.table_description",
            "table_examples": "jaxmeta.tabular.meta_net.table_examples",
            "tabular": "jaxmeta.tabular.meta_net.tabular",
        },
    )


def __dir__() -> list[str]:
    return __all__
