"""Names of version 0.1 that have a new home or a better word: they work for one version, and warn.

A package that had such a name takes its `__getattr__` from `renamed`; modules that had a public
place of their own are found by `_MODULES`.
"""

import importlib
import sys
import types
import warnings
from collections.abc import Callable, Mapping
from typing import Any

_GOES = "the old name goes with version 0.3"

_NAMES: dict[str, Mapping[str, str]] = {}
"""The deprecated names of each package, and where they are now."""


def renamed(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package some of whose names are deprecated.

    Args:
      package: its `__name__`.
      names: from an old name to where it is now, `jaxmeta.package.name`.
    """
    _NAMES[package] = names

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        warn(f"{package}.{name}", names[name])
        return _get(names[name])

    return find


def _get(path: str) -> Any:
    home, _, name = path.rpartition(".")
    return getattr(importlib.import_module(home), name)


def warn(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Say once a place that `old` is now `new`."""
    warnings.warn(f"{old} is now {new}; {_GOES}.", DeprecationWarning, stacklevel=stacklevel)


_MODULES = {
    "differentiation": "inner._differentiation",
    "faults": "_nonfinite",
    "files": "_files",
    "finite": "_guarded",
    "masking": "_examples",
    "optimisers": "_optax",
    "sharing": "_collectives",
    "validation": "_validation",
    "export.numpy_file": "export._numpy_file",
    "export.perceptron": "export._perceptron",
    "export.report": "export._report",
    "export.stablehlo": "export._stablehlo",
    "learners.cavia": "learners._cavia",
    "learners.common": "learners._similarity",
    "learners.gradient": "learners",
    "learners.hypernet": "learners._hypernet",
    "learners.in_context": "learners._in_context",
    "learners.learned_init": "learners._learned_init",
    "learners.matching": "learners._matching",
    "learners.multi_step": "learners._maml_plus_plus",
    "learners.nearest_neighbour": "learners._nearest_neighbour",
    "learners.neural_process": "learners._neural_process",
    "learners.prototypes": "learners._prototypes",
    "learners.recurrent": "networks._recurrent",
    "learners.relation": "learners._relation",
    "learners.ridge": "learners._ridge",
    "learners.tabular": "tabular.meta_net",
    "learners.tabular.learner": "tabular.meta_net",
    "learners.tabular.tables": "tabular.meta_net",
    "learners.transfer": "learners._transfer",
    "networks.attention": "networks._attention",
    "networks.base": "networks._core",
    "networks.blocks": "networks._blocks",
    "networks.conv": "networks._encoders",
    "networks.formulations": "networks._conv_lowerings",
    "networks.mlp": "networks._mlp",
    "networks.modules": "networks._modules",
    "networks.precision": "networks._precision",
    "networks.task_conv": "networks._task_conv",
    "sparsity.descent": "sparsity._descent",
    "sparsity.gates": "sparsity",
    "sparsity.measures": "sparsity._measures",
    "sparsity.operators": "sparsity",
    "sparsity.penalties": "sparsity._penalties",
    "tabular.compress": "tabular.estimator._compress",
    "tabular.emitting": "tabular.estimator._pretrained",
    "tabular.explanation": "tabular.estimator._explain",
    "tabular.model": "tabular.estimator._model",
    "tabular.reduction": "tabular.estimator._reduction",
    "tasks.augment": "tasks._augment",
    "tasks.drawings": "datasets._drawings",
    "tasks.episodes": "tasks._episodes",
    "tasks.glyphs": "datasets._glyphs",
    "tasks.images": "datasets._images",
    "tasks.omniglot": "datasets._omniglot",
    "tasks.synthetic": "tasks._synthetic",
    "tasks.tabular_prior": "tabular.prior._prior",
    "transforms.checked": "transforms._checked",
    "transforms.fine_tune": "transforms._fine_tune",
    "transforms.gated": "inner._optimisers",
    "transforms.multiplier": "sparsity._target",
    "transforms.sparsify": "transforms._sparsify",
}
"""Modules of version 0.1, from which names could be imported, and where their contents are."""


def keep_old_modules() -> None:
    """Let `from jaxmeta.learners.matching import matching` work, and warn."""
    for old, new in _MODULES.items():
        name = f"jaxmeta.{old}"
        sys.modules.setdefault(name, _OldModule(name, f"jaxmeta.{new}"))


class _OldModule(types.ModuleType):
    """A module that is elsewhere now; nothing is imported before one of its names is asked for."""

    def __init__(self, name: str, home: str):
        super().__init__(name, f"Now {home}.")
        self.__home = home

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        package = sys.modules[self.__name__.rpartition(".")[0]]
        home = package.__name__ if name in getattr(package, "__all__", ()) else self.__home
        # The name may have changed as well, which the package knows.
        new = _NAMES.get(package.__name__, {}).get(name)
        value = _get(new or f"{home}.{name}")
        public = home.rpartition("._")[0] or home
        warn(f"{self.__name__}.{name}", new or f"{public}.{name}")
        return value
