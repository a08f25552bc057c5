"""Tasks: samplers `key -> Task`, and the data sets they draw from."""

from jaxmeta.tasks.drawings import read_drawings
from jaxmeta.tasks.episodes import class_batches, episodes
from jaxmeta.tasks.glyphs import glyphs
from jaxmeta.tasks.images import ImageClasses, keep_groups
from jaxmeta.tasks.omniglot import omniglot
from jaxmeta.tasks.synthetic import sinusoids, two_tasks
from jaxmeta.tasks.tabular_prior import tabular_prior

__all__ = [
    "ImageClasses",
    "class_batches",
    "episodes",
    "glyphs",
    "keep_groups",
    "omniglot",
    "read_drawings",
    "sinusoids",
    "tabular_prior",
    "two_tasks",
]
