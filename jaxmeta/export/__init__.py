"""Export: one adapted learner leaves JAX, physically smaller where its `w` is sparse.

    small = prune_dead_units(perceptron(theta, w))       # dead inputs and units are gone
    path.write_text(numpy_source(small))       # a Python file with `predict(x)`; NumPy alone
    path.write_bytes(stablehlo(predict, shape))  # any function of x, an encoder included
    path.write_text(numpy_program(adapt, *shapes))  # for NumPy, and any learner's `adapt` too

There is no ONNX: what would make it cheap, jax2onnx, brings a dozen packages with it, and StableHLO
is what JAX itself writes, reads and keeps compatible.
"""

from typing import TYPE_CHECKING

from jaxmeta._deprecations import renamed
from jaxmeta._numpy_program import load_program
from jaxmeta.export._numpy_file import load, numpy_source
from jaxmeta.export._numpy_program import numpy_program
from jaxmeta.export._perceptron import Perceptron, perceptron, prune_dead_units
from jaxmeta.export._report import Report, describe, measure
from jaxmeta.export._stablehlo import stablehlo

__all__ = [
    "Perceptron",
    "Report",
    "describe",
    "load",
    "load_program",
    "measure",
    "numpy_program",
    "numpy_source",
    "perceptron",
    "prune_dead_units",
    "stablehlo",
]

if not TYPE_CHECKING:  # a checker knows the names of today alone
    __getattr__ = renamed(
        __name__,
        {
            "shrink": "jaxmeta.export.prune_dead_units",
        },
    )


def __dir__() -> list[str]:
    return __all__
