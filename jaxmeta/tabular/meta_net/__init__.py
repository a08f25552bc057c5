"""The tabular meta-net: it reads a table and emits a linear model in a dictionary of terms."""

from jaxmeta.tabular._arrays import FEATURES, EmittedTable
from jaxmeta.tabular.meta_net._learner import TableDescription, tabular
from jaxmeta.tabular.meta_net._programs import write_programs
from jaxmeta.tabular.meta_net._tables import table_description, table_examples

__all__ = [
    "EmittedTable",
    "FEATURES",
    "TableDescription",
    "table_description",
    "table_examples",
    "tabular",
    "write_programs",
]


def __dir__() -> list[str]:
    return __all__
