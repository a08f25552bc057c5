"""How all pictures are made and kept; they need `pip install 'jaxmeta[plots]'`."""

from pathlib import Path
from typing import Any


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
