"""Data sets: arrays by class, read from disk or drawn; `tasks.episodes` makes tasks of them."""

from jaxmeta.datasets._drawings import read_drawings
from jaxmeta.datasets._glyphs import glyphs
from jaxmeta.datasets._images import ImageClasses, keep_groups
from jaxmeta.datasets._omniglot import omniglot

__all__ = ["ImageClasses", "glyphs", "keep_groups", "omniglot", "read_drawings"]


def __dir__() -> list[str]:
    return __all__
