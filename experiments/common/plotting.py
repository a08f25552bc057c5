"""How all pictures are made and kept; they need `pip install 'jaxmeta[plots]'`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def pyplot():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def save(figure: Any, path: Path) -> None:
    """Write aside, then rename: a plot is whole or not there."""
    plt = pyplot()
    aside = path.with_name(f".{path.name}")
    figure.savefig(aside, dpi=130, format="png")
    aside.replace(path)
    plt.close(figure)


def reliability_diagram(curves: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """How often answers are right against what their probabilities say, a line for each curve.

    Args:
      curves: by name, what `evaluation.reliability` says: on the diagonal probabilities are true.
      path: of the PNG.
    """
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(6.4, 5.2), layout="constrained")
    axis.plot([0, 100], [0, 100], color="black", linewidth=0.8, label="as they say")
    for name, curve in curves.items():
        confidence, accuracy = (100 * np.asarray(curve[key]) for key in ("confidence", "accuracy"))
        axis.plot(confidence, accuracy, marker="o", markersize=3, linewidth=1.2, label=name)
    axis.set(xlabel="probability of the answer (%)", ylabel="share that is right (%)")
    axis.set(xlim=(0, 101), ylim=(0, 101))
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=8)
    save(figure, path)
