"""What the exported learner is worth, beside the one that nothing was taken from."""

import timeit
from typing import NamedTuple

import numpy as np

from jaxmeta.export._numpy_file import load, numpy_source
from jaxmeta.export._perceptron import Perceptron, prune_dead_units

BATCHES = (1, 1000)


class Report(NamedTuple):
    """Figures of an exported learner.

    Attributes:
      num_bytes: of the file.
      nonzeros: entries of kernels and biases that are not zero.
      multiply_adds: of a row, in the matrices as they are multiplied.
      microseconds: of a row, in batches of each of `BATCHES`.
      difference: the largest from the logits of the original.
    """

    num_bytes: int
    nonzeros: int
    multiply_adds: int
    microseconds: tuple[float, ...]
    difference: float


def describe(report: Report) -> str:
    """The figures as a sentence."""
    one, many = report.microseconds
    return (
        f"{report.num_bytes:,} bytes, {report.nonzeros:,} non-zeros, {report.multiply_adds:,} "
        f"multiply-adds a row, {one:.2f} and {many:.3f} microseconds a row in batches of "
        f"{BATCHES[0]} and {BATCHES[1]:,}, largest difference to the original "
        f"{report.difference:.1e}"
    )


def measure(
    whole: Perceptron, x: np.ndarray, z: np.ndarray, *, seconds: float = 0.2, rounds: int = 5
) -> tuple[Report, Report]:
    """`(exported, dense)`: the learner shrunk, and as it was and stored whole; NumPy files both.

    They are timed in turns.

    Args:
      whole: as `perceptron` gives it.
      x: rows of features `[N, F]`.
      z: the original's logits of them `[N, C]`.
      seconds: that one timing takes.
      rounds: timings of each, the least of which counts.
    """
    x, z = np.asarray(x, np.float32), np.asarray(z)
    learners = prune_dead_units(whole), whole
    sources = [numpy_source(learners[0]), numpy_source(learners[1], compress=False)]
    functions = [load(source) for source in sources]
    times = np.full((len(functions), len(BATCHES)), np.inf)
    for _ in range(rounds):
        for j, size in enumerate(BATCHES):
            rows = np.resize(x, (size, x.shape[1]))
            for i, predict in enumerate(functions):
                timer = timeit.Timer(lambda predict=predict, rows=rows: predict(rows))
                number = max(1, int(seconds / rounds / max(timer.timeit(1), 1e-6)))
                times[i, j] = min(times[i, j], timer.timeit(number) / number / size)
    reports = []
    for i, learner in enumerate(learners):
        arrays = [array for layer in learner.layers for array in layer]
        reports.append(
            Report(
                num_bytes=len(sources[i].encode()),
                nonzeros=sum(int(np.count_nonzero(array)) for array in arrays),
                multiply_adds=sum(kernel.size for kernel, _ in learner.layers),
                microseconds=tuple(float(each) for each in 1e6 * times[i]),
                difference=float(np.abs(functions[i](x) - z).max()),
            )
        )
    return reports[0], reports[1]
