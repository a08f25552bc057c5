"""`sparsify`: the same learner, but `w` leaves `adapt` with exact zeros."""

from jaxmeta.types import Array, Examples, MetaLearner, Prox, PyTree


def sparsify(learner: MetaLearner, prox: Prox, *, step: float = 1.0) -> MetaLearner:
    """Put a proximal operator behind `adapt`.

    The zeros are part of the function that is trained: the gradient flows through the entries
    that survive, and theta learns to emit a `w` that is right once it is sparse.

    Args:
      learner: the learner to wrap; its theta serves the sparse one and the other way round.
      prox: `prox(w, step) -> w`, see `jaxmeta.sparsity`.
      step: handed to `prox`: the threshold of `soft_threshold`.

    Examples:
      >>> sparse = sparsify(learner, sparsity.top_k(0.1))
    """
    if not step >= 0:
        raise ValueError(f"sparsify needs a step of zero or more, got {step}.")

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> PyTree:
        return prox(learner.adapt(theta, support, description=description, key=key), step)

    return learner._replace(adapt=adapt)
