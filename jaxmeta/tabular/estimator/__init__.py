"""The estimators: NumPy and scikit-learn around the pre-trained meta-net."""

from jaxmeta.tabular.estimator._classifier import MetaClassifier

__all__ = ["MetaClassifier"]


def __dir__() -> list[str]:
    return __all__
