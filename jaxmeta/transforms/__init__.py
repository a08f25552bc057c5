"""Transforms: functions that take a learner and return a learner."""

from jaxmeta.transforms.checked import checked, checked_loss
from jaxmeta.transforms.fine_tune import LearnedOptimiser, Tuned, fine_tune, learned_rates
from jaxmeta.transforms.gated import GatedUpdates, gated
from jaxmeta.transforms.multiplier import Multiplied, TargetDensity, with_multiplier
from jaxmeta.transforms.sparsify import Gated, any_size, sparsify

__all__ = [
    "Gated",
    "GatedUpdates",
    "LearnedOptimiser",
    "Multiplied",
    "TargetDensity",
    "Tuned",
    "any_size",
    "checked",
    "checked_loss",
    "fine_tune",
    "gated",
    "learned_rates",
    "sparsify",
    "with_multiplier",
]
