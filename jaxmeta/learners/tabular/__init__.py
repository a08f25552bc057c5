"""The tabular meta-net, in parts: dictionary, bank, encoder, contrasts, gate, emission, learner."""

from jaxmeta.learners.tabular.learner import EmittedTable, TableDescription, tabular
from jaxmeta.learners.tabular.tables import table_description, table_examples

__all__ = ["EmittedTable", "TableDescription", "table_description", "table_examples", "tabular"]
