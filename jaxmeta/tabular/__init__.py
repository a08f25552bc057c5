"""Small tables: a scikit-learn classifier around a pre-trained meta-net, and its parts.

`MetaClassifier` needs scikit-learn; the meta-net (`jaxmeta.tabular.meta_net`) and the prior that it
was trained on (`jaxmeta.tabular.prior`) do not.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxmeta.tabular.estimator import MetaClassifier

__all__ = ["MetaClassifier"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        try:
            from jaxmeta.tabular import estimator
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] != "sklearn":
                raise
            raise ModuleNotFoundError(
                f"jaxmeta.tabular.{name} needs scikit-learn: pip install 'jaxmeta[sklearn]'.",
                name=error.name,
            ) from error
        return getattr(estimator, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
