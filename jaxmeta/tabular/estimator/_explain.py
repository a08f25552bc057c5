"""Emitted models for people to read: as text and as bar charts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmeta.tabular.estimator._terms import Term, distinct

_WIDEST = 52  # characters of a term: names and levels can be many
_MOST_BARS = 30


class Page(NamedTuple):
    """One emitted model.

    Attributes:
      terms: the heaviest first.
      bias: the constant of each class but the first.
      classes: labels; the weights are log-odds against the first.
    """

    terms: Sequence[Term]
    bias: np.ndarray
    classes: Sequence[Any]


def as_text(page: Page) -> str:
    """A line a term: its weights in standard deviations of the term, and a bar."""
    first, *others = distinct([str(each) for each in page.classes], 9)
    texts = distinct([term.text for term in page.terms], _WIDEST)
    title = "log-odds against " + first
    width = max(map(len, [title, "intercept", *texts])) + 2
    lines = [f"{title:<{width}}" + "".join(f"{each:>10}" for each in others)]
    most = max([float(np.abs(term.weights).max()) for term in page.terms] + [1e-9])
    lines.append(f"{'intercept':<{width}}" + "".join(f"{each:>10.3f}" for each in page.bias))
    for text, term in zip(texts, page.terms, strict=True):
        numbers = "".join(f"{each:>10.3f}" for each in term.weights)
        bar = "#" * round(12 * float(np.abs(term.weights).max()) / most)
        lines.append(f"{text:<{width}}{numbers}  {bar}".rstrip())
    return "\n".join(lines)


def draw(pages: Sequence[Page], path: Path | str) -> None:
    """A panel a page: a bar a term and class, the heaviest on top; at most 30 terms."""
    from matplotlib.figure import Figure  # the extra `plots`

    heights = [1.2 + 0.28 * min(len(page.terms), _MOST_BARS) for page in pages]
    figure = Figure(figsize=(7, sum(heights)), layout="constrained")
    panels = figure.subplots(len(pages), squeeze=False, height_ratios=heights).ravel()
    for page, axes in zip(pages, panels, strict=True):
        _draw_page(page, axes)
    figure.savefig(path, dpi=120)


def _draw_page(page: Page, axes: Any) -> None:
    terms = list(page.terms[:_MOST_BARS])[::-1]
    first, *others = distinct([_verbatim(str(each)) for each in page.classes], 30)
    height, places = 0.8 / len(others), np.arange(len(terms))
    for c, name in enumerate(others):
        weights = [term.weights[c] for term in terms]
        axes.barh(places + height * (c - (len(others) - 1) / 2), weights, height, label=f" {name}")
    texts = distinct([term.text for term in page.terms], _WIDEST)[:_MOST_BARS][::-1]
    axes.set_yticks(places, [_verbatim(text) for text in texts])
    axes.axvline(0.0, color="0.5", linewidth=0.8)
    axes.set_xlabel(f"log-odds against {first}, a standard deviation")
    if others:
        axes.legend(frameon=False)


def _verbatim(text: str) -> str:
    """A dollar begins a formula for matplotlib, unless it is escaped."""
    return text.replace("$", r"\$")
