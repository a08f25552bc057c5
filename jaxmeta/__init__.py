"""jaxmeta: meta-learning as three pure functions, in JAX."""

from jaxmeta import (
    checkpoint,
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

__version__ = "0.1.0"

__all__ = [
    "Evaluation",
    "Examples",
    "MetaLearner",
    "Network",
    "Task",
    "TrainState",
    "checkpoint",
    "evaluate",
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
    "tasks",
    "training",
    "transforms",
]
