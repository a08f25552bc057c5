"""Transforms: functions that take a learner and return a learner."""

from jaxmeta.transforms.fine_tune import LearnedOptimiser, Tuned, fine_tune, learned_rates
from jaxmeta.transforms.sparsify import sparsify

__all__ = ["LearnedOptimiser", "Tuned", "fine_tune", "learned_rates", "sparsify"]
