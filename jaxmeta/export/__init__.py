"""Export: one adapted learner leaves JAX, physically smaller where its `w` is sparse.

    small = shrink(perceptron(theta, w))       # dead inputs and units are gone
    path.write_text(numpy_source(small))       # a Python file with `predict(x)`; NumPy alone
    path.write_bytes(stablehlo(predict, shape))  # any function of x, an encoder included

There is no ONNX: what would make it cheap, jax2onnx, brings a dozen packages with it, and StableHLO
is what JAX itself writes, reads and keeps compatible.
"""

from jaxmeta.export.numpy_file import load, numpy_source
from jaxmeta.export.perceptron import Perceptron, perceptron, shrink
from jaxmeta.export.report import Report, describe, measure
from jaxmeta.export.stablehlo import stablehlo

__all__ = [
    "Perceptron",
    "Report",
    "describe",
    "load",
    "measure",
    "numpy_source",
    "perceptron",
    "shrink",
    "stablehlo",
]
