"""Transforms: functions that take a learner and return a learner."""

from jaxmeta.transforms.sparsify import sparsify

__all__ = ["sparsify"]
