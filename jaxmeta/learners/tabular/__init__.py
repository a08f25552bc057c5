"""The tabular meta-net, in parts: dictionary, bank, encoder, gate, emission, learner."""

from jaxmeta.learners.tabular.learner import EmittedTable, TableDescription, tabular

__all__ = ["EmittedTable", "TableDescription", "tabular"]
