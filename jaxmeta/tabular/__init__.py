"""Small tables: a scikit-learn classifier around the pre-trained meta-net. Needs scikit-learn."""

from jaxmeta.tabular.estimator import MetaClassifier

__all__ = ["MetaClassifier"]
