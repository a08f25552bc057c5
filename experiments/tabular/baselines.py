"""The classifiers that the tabular meta-net is compared with, each with its usual preparation."""

from collections.abc import Callable

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF
from sklearn.impute import SimpleImputer
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegressionCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from experiments.tabular.tables import Table


def _logistic(l1_ratio: float, solver: str) -> LogisticRegressionCV:
    return LogisticRegressionCV(
        Cs=10,
        cv=5,
        l1_ratios=(l1_ratio,),
        solver=solver,
        scoring="neg_log_loss",
        max_iter=300,
        use_legacy_attributes=False,
    )


def _lasso(num_classes: int) -> ClassifierMixin:
    model = _logistic(1.0, "liblinear")
    return model if num_classes == 2 else OneVsRestClassifier(model)


def _with_landmarks(rows: int) -> Pipeline:
    landmarks = Nystroem(n_components=min(60, rows), gamma=None, random_state=0)
    features = FeatureUnion([("same", FunctionTransformer()), ("rbf", landmarks)])
    return make_pipeline(features, _logistic(0.0, "lbfgs"))


BASELINES: dict[str, Callable[[Table], ClassifierMixin]] = {
    "LR, CV-tuned L2": lambda table: _logistic(0.0, "lbfgs"),
    "LR, CV-tuned L1": lambda table: _lasso(table.y.max() + 1),
    "LR-CV + RBF": lambda table: _with_landmarks(len(table.y)),
    "Gaussian process": lambda table: GaussianProcessClassifier(1.0 * RBF(3.0), random_state=0),
    "random forest": lambda table: RandomForestClassifier(
        100, min_samples_leaf=5, random_state=0, n_jobs=1
    ),
    "HistGradientBoosting": lambda table: HistGradientBoostingClassifier(random_state=0),
    "SVC, calibrated": lambda table: CalibratedClassifierCV(
        SVC(), cv=min(5, np.bincount(table.y).min()), ensemble=False
    ),
    "k-NN": lambda table: KNeighborsClassifier(10),
}


def build(name: str, table: Table) -> Pipeline:
    """One-hot codes, standardised numbers, missing numbers at the mean; then the classifier."""
    numeric = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
    codes = make_pipeline(
        SimpleImputer(strategy="constant", fill_value=-1), OneHotEncoder(handle_unknown="ignore")
    )
    columns = np.arange(len(table.categorical))
    prepare = ColumnTransformer(
        [
            ("numeric", numeric, columns[~table.categorical]),
            ("codes", codes, columns[table.categorical]),
        ],
        sparse_threshold=0,
    )
    return make_pipeline(prepare, BASELINES[name](table))
