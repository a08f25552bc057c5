"""Ridge regression in closed form (R2D2): `w` is the linear head that solves the support set."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg

from jaxmeta._absent import with_absent
from jaxmeta._examples import one_hot_labels, read_support
from jaxmeta._precision import as_one_dtype
from jaxmeta._tree import Variables
from jaxmeta.networks._core import encoder
from jaxmeta.types import Array, Examples, MetaLearner, Network, PyTree, Task


class RidgeHead(NamedTuple):
    """`w` of ridge regression: a linear map of features.

    Attributes:
      kernel: `[F, C]`.
      bias: `[C]`.
      present: which outputs are in use, bool `[C]`.
      root: a matrix `R [F + 1, F + 1]` with R R^T = (X^T X + lambda I)^-1, for `extend`; it is no
        parameter. None for a head that is not extendable.
    """

    kernel: Array
    bias: Array
    present: Array
    root: Variables | None = None


def ridge(
    network: Network,
    *,
    ways: int | None = None,
    regulariser: float = 1.0,
    scale: float = 10.0,
    intercept: bool = True,
    extendable: bool = False,
) -> MetaLearner:
    """Solve a linear head on the embedded support rows, and differentiate through the solution.

        X = [network(x) / sqrt(F), 1]    `[S, F + 1]`: a column of ones for the intercept
        V = argmin_V |X V - Y|^2 + lambda |V|^2        intercept included, as in the paper
        z = scale * [network(x) / sqrt(F), 1] V + offset    in classification, where Y is one-hot
        z = [network(x) / sqrt(F), 1] V                     in regression

    The square root keeps the rows of X at a length of about one however many features there are,
    so that lambda means the same for every network: one support row more, or less. theta holds
    lambda, and in classification scale and offset; `w` is V with all of these folded in. The
    offset is one number for all classes: it cancels in a softmax, and serves losses that judge
    each class by itself.

    Args:
      network: `[N, ...] -> [N, F]`.
      ways: static number of columns of the logits; by default the number of support rows.
      regulariser: where the learned lambda starts.
      scale: where the learned scale of the logits starts.
      intercept: whether X has a column of ones.
      extendable: whether further rows can join `w` (`extend`), at a cost that does not grow with
        the rows before; there may be none at first. `w` is then solved row by row, and carries a
        matrix of F + 1 rows as a constant: no parameter, and in no density. theta is the same, so
        one can train without, which is faster.

    Returns:
      A learner whose `z` is `[N, C]` logits for integer labels, any number of ways with the same
      theta, or `[N, D]` for targets `y [S, D]`.

    Raises:
      ValueError: if `regulariser` or `scale` is not above zero, or the network is normalised by
        batch statistics (wrap it in `networks.transductive`).

    Example:
      >>> import jax
      >>> from jaxmeta import learners, networks, tasks
      >>> task = tasks.sinusoids(shots=5, queries=6)(jax.random.key(0))
      >>> learner = learners.ridge(networks.mlp([8]))
      >>> theta = learner.init(jax.random.key(1), task)
      >>> w = learner.adapt(theta, task.support)
      >>> learner.predict(theta, w, task.query.x).shape
      (6, 1)

    References:
      Bertinetto et al., Meta-learning with differentiable closed-form solvers, arXiv:1805.08136.
      Bierman, Factorization methods for discrete sequential estimation, Academic Press, 1977:
      Potter's square-root update, for one row more.
    """
    for name, value in (("regulariser", regulariser), ("scale", scale)):
        if not value > 0:
            raise ValueError(f"ridge needs a {name} above zero, got {value}.")
    network = encoder(network, "ridge")

    def init(key: Array, task: Task) -> PyTree:
        theta = {
            "network": network.init(key, task.support.x),
            "log_regulariser": jnp.log(jnp.float32(regulariser)),
        }
        if task.support.y.ndim == 1:
            theta |= {"log_scale": jnp.log(jnp.float32(scale)), "offset": jnp.zeros(())}
        return theta

    def read(
        theta: PyTree, rows: Examples, ways: int | None, key: Array | None = None
    ) -> tuple[Array, Array, Array]:
        """X `[S, F + 1]`, Y `[S, C]`, and which columns of Y are in use."""
        targets, present = _targets(rows, ways)
        x = network.apply(theta["network"], rows.x, key=key)
        x, targets = as_one_dtype(x, targets)
        x = x / x.shape[-1] ** 0.5
        if intercept:
            x = jnp.concatenate([x, jnp.ones((x.shape[0], 1), x.dtype)], axis=-1)
        # Rows of zeros, on both sides, change nothing: padding is exact.
        return jnp.where(rows.mask.astype(bool)[:, None], x, 0.0), targets, present

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> RidgeHead:
        del description
        support = read_support(support, ways, network, may_be_empty=extendable)
        x, targets, present = read(theta, support, ways, key)
        size = x.shape[-1] - intercept
        if extendable:
            return _joined(theta, _blank(theta, x, targets, size), x, targets, present)
        solution = _solve(x, targets, jnp.exp(theta["log_regulariser"]))
        kernel = solution[:size] / size**0.5
        bias = solution[size] if intercept else jnp.zeros_like(kernel[0])
        if support.y.ndim == 1:
            gain = jnp.exp(theta["log_scale"])
            kernel, bias = gain * kernel, gain * bias + theta["offset"]
        return RidgeHead(kernel, bias, present)

    def extend(theta: PyTree, w: RidgeHead, examples: Examples) -> RidgeHead:
        ways = len(w.present)
        rows = read_support(examples, ways, network, may_be_empty=True)
        return _joined(theta, w, *read(theta, rows, ways))

    def predict(theta: PyTree, w: RidgeHead, x: Array) -> Array:
        z = network.apply(theta["network"], x) @ w.kernel
        return with_absent(z + w.bias[None], w.present)

    return MetaLearner(init, adapt, predict, extend if extendable else None)


def _targets(support: Examples, ways: int | None) -> tuple[Array, Array]:
    """Y `[S, C]`, zeros where padded, and which of its columns are in use `[C]`."""
    if support.y.ndim == 1:
        members = one_hot_labels(support, ways)
        return members, members.sum(axis=0) > 0
    return support.y, jnp.ones(support.y.shape[1], bool)


def _solve(x: Array, y: Array, regulariser: Array) -> Array:
    """V `[F, C]` of least `|x V - y|^2 + regulariser |V|^2`, from the smaller of two systems.

    (x^T x + lambda I)^-1 x^T y = x^T (x x^T + lambda I)^-1 y     (Woodbury)
    """
    few_rows = len(x) < x.shape[1]
    # Rounding can make the system indefinite if lambda comes near its size (the trace, which is
    # the same for both). In the precision of accelerators' fast products it would soon do so.
    floor = jnp.finfo(x.dtype).eps * jnp.square(x).sum()
    gram = jnp.matmul(x, x.T, precision="highest") if few_rows else _inner(x, x)
    gram = gram + (regulariser + floor) * jnp.eye(len(gram), dtype=gram.dtype)
    if few_rows:
        return _inner(x, jax.scipy.linalg.solve(gram, y, assume_a="pos"))
    return jax.scipy.linalg.solve(gram, _inner(x, y), assume_a="pos")


def _inner(a: Array, b: Array) -> Array:
    return jnp.matmul(a.T, b, precision="highest")


# The same solution, row by row


def _blank(theta: PyTree, x: Array, targets: Array, size: int) -> RidgeHead:
    """The head that has seen no row."""
    num_outputs = targets.shape[1]
    root = jnp.exp(-0.5 * theta["log_regulariser"]) * jnp.eye(x.shape[1], dtype=x.dtype)
    kernel = jnp.zeros((size, num_outputs), x.dtype)
    bias = jnp.full(num_outputs, theta.get("offset", 0.0), x.dtype)
    return RidgeHead(kernel, bias, jnp.zeros(num_outputs, bool), _constant(root))


def _joined(theta: PyTree, w: RidgeHead, x: Array, targets: Array, present: Array) -> RidgeHead:
    """The head with the rows `x [S, F + 1]` more."""
    if "log_scale" in theta:
        targets = jnp.exp(theta["log_scale"]) * targets + theta["offset"]
    w, _ = jax.lax.scan(lambda w, row: (_corrected(w, *row), None), w, (x, targets))
    return w._replace(present=w.present | present)


def _corrected(w: RidgeHead, x: Array, target: Array) -> RidgeHead:
    """The head with one row `x [F + 1]` more, by what it says wrong of it (Sherman-Morrison).

        f = R^T x;  d = 1 + f^T f;  V <- V + R f / d (y - x^T V);  R <- R - R f f^T / (d + sqrt(d))

    R R^T cannot lose its sign, as the inverse itself would in single precision where lambda is
    small; and V corrects itself.
    """
    root, size = w.root["value"], len(w.kernel)  # pyrefly: ignore
    seen = jnp.matmul(x, root, precision="highest")
    step = jnp.matmul(root, seen, precision="highest")
    grown = 1.0 + jnp.square(seen).sum()
    wrong = target - size**0.5 * jnp.matmul(x[:size], w.kernel, precision="highest") - w.bias
    return w._replace(
        kernel=w.kernel + jnp.outer(step[:size] / (grown * size**0.5), wrong),
        # Without an intercept there is no such step.
        bias=w.bias + step[size:].sum() / grown * wrong,
        root=_constant(root - jnp.outer(step / (grown + jnp.sqrt(grown)), seen)),
    )


def _constant(root: Array) -> Variables:
    return Variables({"value": root}, constants={"value"})
