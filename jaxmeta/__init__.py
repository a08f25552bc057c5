"""jaxmeta: meta-learning as three pure functions, in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

from jaxmeta import (
    _deprecations,
    checkpoint,
    datasets,
    evaluation,
    export,
    inner,
    learners,
    losses,
    networks,
    parallel,
    sparsity,
    tasks,
    training,
    transforms,
)
from jaxmeta.evaluation import Evaluation, evaluate, paired_difference
from jaxmeta.objective import meta_objective
from jaxmeta.training import make_step, sample_tasks, scan_steps
from jaxmeta.types import Examples, MetaLearner, Network, Task, TrainState

if TYPE_CHECKING:
    from jaxmeta import tabular

__version__ = "0.2.0.dev0"

__all__ = [
    "Evaluation",
    "Examples",
    "MetaLearner",
    "Network",
    "Task",
    "TrainState",
    "checkpoint",
    "datasets",
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

_deprecations.keep_old_modules()


def __getattr__(name: str) -> Any:
    if name == "tabular":  # Of use to those who fit tables; the others need not wait for it.
        return importlib.import_module("jaxmeta.tabular")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
