"""The prior over tables: synthetic classification tasks that the tabular meta-net is trained on."""

from jaxmeta.tabular.prior._prior import tabular_prior

__all__ = ["tabular_prior"]


def __dir__() -> list[str]:
    return __all__
