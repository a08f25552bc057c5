"""jaxmeta: meta-learning as three pure functions, in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

from jaxmeta import _deprecations

if TYPE_CHECKING:
    from jaxmeta import (
        acting,
        checkpoint,
        datasets,
        embeddings,
        evaluation,
        export,
        inner,
        learners,
        losses,
        networks,
        parallel,
        sparsity,
        tabular,
        tasks,
        training,
        transforms,
    )
    from jaxmeta.evaluation import Evaluation, evaluate, paired_difference
    from jaxmeta.objective import meta_objective
    from jaxmeta.training import make_step, sample_tasks, scan_steps
    from jaxmeta.types import Examples, MetaLearner, Network, Task, TrainState

__version__ = "0.2.0.dev0"

__all__ = [
    "Evaluation",
    "Examples",
    "MetaLearner",
    "Network",
    "Task",
    "TrainState",
    "acting",
    "checkpoint",
    "datasets",
    "embeddings",
    "evaluate",
    "evaluation",
    "export",
    "inner",
    "learners",
    "losses",
    "make_step",
    "meta_objective",
    "networks",
    "paired_difference",
    "parallel",
    "sample_tasks",
    "scan_steps",
    "sparsity",
    "tabular",
    "tasks",
    "training",
    "transforms",
]

# Who fits a table does not wait for JAX, nor who trains a learner for scikit-learn: a name is
# looked up when it is first used.
_HOMES = {
    "evaluation": ("Evaluation", "evaluate", "paired_difference"),
    "objective": ("meta_objective",),
    "training": ("make_step", "sample_tasks", "scan_steps"),
    "types": ("Examples", "MetaLearner", "Network", "Task", "TrainState"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

_deprecations.keep_old_modules()


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        found = getattr(importlib.import_module(f"jaxmeta.{_HOME_OF[name]}"), name)
        globals()[name] = found
        return found
    if name in __all__:
        return importlib.import_module(f"jaxmeta.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
