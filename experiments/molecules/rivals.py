"""What practitioners run on the same labels of one assay, fitted anew to every draw."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from experiments.molecules.fitting import SCREENED, Part, Plan, query_rows
from experiments.molecules.tasks import auc, draws
from jaxmeta.types import Examples

Score = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""`(x, y, x_query) -> score [Q]`: the larger, the likelier active."""


def logistic_regression(x: np.ndarray, y: np.ndarray, query: np.ndarray) -> np.ndarray:
    """By scikit-learn, at its usual strength."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000).fit(x, y).decision_function(query)


def random_forest(x: np.ndarray, y: np.ndarray, query: np.ndarray) -> np.ndarray:
    """By scikit-learn, of its usual hundred trees."""
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(random_state=0).fit(x, y).predict_proba(query)[:, 1]


def tanimoto(x: np.ndarray, y: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Similarity to the nearest active, less that to the nearest inactive."""
    common = query @ x.T
    either = query.sum(axis=1)[:, None] + x.sum(axis=1)[None] - common
    similar = common / np.maximum(either, 1.0)
    return similar[:, y == 1].max(axis=1) - similar[:, y == 0].max(axis=1)


WITH_LABELS = " with known labels"
RIVALS: dict[str, Score] = {
    "logistic regression": logistic_regression,
    "random forest": random_forest,
    "Tanimoto neighbours": tanimoto,
}


def rivals_of(setting: str) -> tuple[str, ...]:
    """On fingerprints; of molecules screened before, also on what the learners read beside them."""
    more = [name + WITH_LABELS for name in list(RIVALS)[:2]] if setting == SCREENED else []
    return (*RIVALS, *more)


def judge_rival(name: str, part: Part, plan: Plan, count: int) -> np.ndarray:
    """The AUC of each assay and draw `[A, count]`, on the same tasks as the learners.

    Raises:
      ImportError: without scikit-learn.
    """
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ImportError("Rivals need scikit-learn: pip install 'jaxmeta[sklearn]'.") from error
    score, read = RIVALS[name.removesuffix(WITH_LABELS)], name.endswith(WITH_LABELS)
    table, found = part.judged, np.zeros((len(part.judge), count))
    num_bytes = table.x.shape[1] - len(table.columns)
    for n, assay in enumerate(part.judge):
        known = int((table.label[table.rows, assay] >= 0).sum())
        most = min(known - 2 * plan.shots, query_rows(part))
        tasks = draws(table, assay, shots=plan.shots, count=count, most=most, seed=plan.seed)
        for k in range(count):
            support, query = (Examples(*(leaf[k] for leaf in rows)) for rows in tasks[:2])
            x, x_query = (
                numbers_of(np.asarray(rows.x), num_bytes, read) for rows in (support, query)
            )
            z = score(x, np.asarray(support.y), x_query)
            z = np.stack([np.zeros_like(z), z], axis=1).astype(np.float32)
            found[n, k] = auc(jnp.asarray(z), query.y, query.mask)
    return found


def numbers_of(x: np.ndarray, num_bytes: int, read: bool) -> np.ndarray:
    """Bits as numbers; known labels beside them as -1, 0 and 1 if they are to be read."""
    bits = np.unpackbits(x[:, :num_bytes], axis=1).astype(np.float32)
    codes = x[:, num_bytes:].astype(np.float32)
    signs = np.where(codes > 0, 2 * codes - 3, 0)
    return np.concatenate([bits, signs], axis=1) if read else bits
