"""Transforms: functions that take a learner and return a learner."""

from typing import TYPE_CHECKING

from jaxmeta._deprecations import renamed
from jaxmeta.sparsity._target import with_multiplier
from jaxmeta.transforms._checked import checked, checked_loss
from jaxmeta.transforms._fine_tune import FineTunedTheta, fine_tune
from jaxmeta.transforms._sparsify import GatedTheta, nested_sparsity, sparsify
from jaxmeta.transforms._temperature import TemperedTheta, TemperedW, temperature

__all__ = [
    "FineTunedTheta",
    "GatedTheta",
    "TemperedTheta",
    "TemperedW",
    "checked",
    "checked_loss",
    "fine_tune",
    "nested_sparsity",
    "sparsify",
    "temperature",
    "with_multiplier",
]

if not TYPE_CHECKING:  # a checker knows the names of today alone
    __getattr__ = renamed(
        __name__,
        {
            "Gated": "jaxmeta.transforms.GatedTheta",
            "GatedUpdates": "jaxmeta.inner.MaskedUpdates",
            "LearnedOptimiser": "jaxmeta.inner.LearnedOptimiser",
            "Multiplied": "jaxmeta.sparsity.WithMultiplier",
            "TargetDensity": "jaxmeta.sparsity.TargetDensity",
            "Tuned": "jaxmeta.transforms.FineTunedTheta",
            "any_size": "jaxmeta.transforms.nested_sparsity",
            "gated": "jaxmeta.inner.masked_updates",
            "learned_rates": "jaxmeta.inner.learned_rates",
        },
    )


def __dir__() -> list[str]:
    return __all__
