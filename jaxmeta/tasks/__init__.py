"""Tasks: samplers `key -> Task`."""

from typing import TYPE_CHECKING

from jaxmeta._deprecations import renamed
from jaxmeta.tasks._episodes import class_batches, episodes
from jaxmeta.tasks._synthetic import sinusoids, two_tasks
from jaxmeta.tasks._vectors import vector_episodes

__all__ = ["class_batches", "episodes", "sinusoids", "two_tasks", "vector_episodes"]

if not TYPE_CHECKING:  # a checker knows the names of today alone
    __getattr__ = renamed(
        __name__,
        {
            "ImageClasses": "jaxmeta.datasets.ImageClasses",
            "glyphs": "jaxmeta.datasets.glyphs",
            "keep_groups": "jaxmeta.datasets.keep_groups",
            "omniglot": "jaxmeta.datasets.omniglot",
            "read_drawings": "jaxmeta.datasets.read_drawings",
            "tabular_prior": "jaxmeta.tabular.prior.tabular_prior",
        },
    )


def __dir__() -> list[str]:
    return __all__
