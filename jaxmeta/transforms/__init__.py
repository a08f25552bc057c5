"""Transforms: functions that take a learner and return a learner."""

from jaxmeta.transforms.checked import checked, checked_loss
from jaxmeta.transforms.fine_tune import LearnedOptimiser, Tuned, fine_tune, learned_rates
from jaxmeta.transforms.sparsify import sparsify

__all__ = [
    "LearnedOptimiser",
    "Tuned",
    "checked",
    "checked_loss",
    "fine_tune",
    "learned_rates",
    "sparsify",
]
