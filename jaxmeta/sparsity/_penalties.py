"""Penalties: `penalty(w) -> scalar`, summed over entries."""

import math

import jax
import jax.numpy as jnp

from jaxmeta._precision import wide
from jaxmeta._tree import parameters
from jaxmeta.types import Array, Penalty, PyTree

_EPS = 1e-12


def _sum(values: list[Array]) -> Array:
    return jnp.asarray(sum(values, jnp.zeros(())))


def _wide(w: PyTree) -> list[Array]:
    """The parameters in float32 at the least: sums of halves overflow."""
    return [wide(leaf) for leaf in parameters(w)]


def l1(w: PyTree) -> Array:
    """The sum of the absolute values of all parameters.

        l1(w) = sum over i of |w_i|

    Args:
      w: task parameters, any tree of arrays.

    Returns:
      A scalar `[]`, in float32 or wider. Its gradient at zero is zero.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmeta import sparsity
      >>> print(sparsity.l1({"kernel": jnp.array([1.0, -2.0])}))
      3.0

    References:
      Tibshirani, Regression shrinkage and selection via the lasso, 1996.
    """
    return _sum([_magnitudes(leaf).sum() for leaf in _wide(w)])


def _magnitudes(leaf: Array) -> Array:
    """`|w_i|` with the sub-gradient zero at zero, where `jnp.abs` would have one."""
    return leaf * jax.lax.stop_gradient(jnp.sign(leaf))


def l2_squared(w: PyTree) -> Array:
    """The sum of the squares of all parameters, which makes numbers small but not zero.

        l2_squared(w) = sum over i of w_i^2

    Args:
      w: task parameters, any tree of arrays.

    Returns:
      A scalar `[]`, in float32 or wider.
    """
    return _sum([jnp.square(leaf).sum() for leaf in _wide(w)])


def elastic_net(ratio: float = 0.5) -> Penalty:
    """A mixture of the absolute values and the squares.

        penalty(w) = ratio * l1(w) + (1 - ratio) / 2 * l2_squared(w)

    Args:
      ratio: the share of `l1`, in [0, 1].

    Returns:
      `penalty(w) -> scalar`.

    Raises:
      ValueError: if `ratio` is outside [0, 1].

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmeta import sparsity
      >>> print(sparsity.elastic_net(0.5)({"kernel": jnp.array([2.0])}))
      2.0

    References:
      Zou and Hastie, Regularization and variable selection via the elastic net, 2005.
    """
    check_ratio(ratio)
    return lambda w: ratio * l1(w) + 0.5 * (1.0 - ratio) * l2_squared(w)


def check_ratio(ratio: float) -> None:
    """Raise ValueError unless `ratio` can be the share of l1 in an elastic net."""
    if not 0.0 <= ratio <= 1.0:
        raise ValueError(f"elastic_net needs a ratio between 0 and 1, got {ratio}.")


def group_lasso(axis: int = -1) -> Penalty:
    """The sum of the Euclidean norms of groups, each scaled by the root of the group's size.

        penalty(w) = sum over groups g of sqrt(size of g) * |w_g|

    A group is what lies along `axis` of a leaf with two or more axes. In a kernel `[in, out]`,
    `axis=-1` ties the weights of one input together, `axis=0` those of one unit. A leaf of one
    axis, such as a bias, counts entry by entry, as in `l1`.

    Args:
      axis: the axis along which the entries of a group lie.

    Returns:
      `penalty(w) -> scalar`. The gradient of a group that is all zeros is zero.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmeta import sparsity
      >>> kernel = jnp.array([[3.0, 4.0], [0.0, 0.0]])
      >>> print(f"{sparsity.group_lasso(axis=-1)(kernel):.2f}")  # sqrt(2) * 5
      7.07

    References:
      Yuan and Lin, Model selection and estimation in regression with grouped variables, 2006.
    """

    def penalty(w: PyTree) -> Array:
        return _sum([_group_norms(leaf, axis).sum() for leaf in _wide(w)])

    return penalty


def _group_norms(leaf: Array, axis: int) -> Array:
    if leaf.ndim < 2:
        return _magnitudes(leaf)
    squares = jnp.square(leaf).sum(axis=axis)
    # The norm has no gradient at zero: a group that is zero gets the sub-gradient zero.
    norms = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    return math.sqrt(leaf.shape[axis]) * norms


def hoyer(w: PyTree) -> Array:
    """The square of the l1 norm over the square of the Euclidean norm, whatever the scale of `w`.

        hoyer(w) = (sum |w_i|)^2 / sum w_i^2

    It lies between 1, where one entry alone is not zero, and the number of parameters, where all
    have the same magnitude.

    Args:
      w: task parameters, any tree of arrays.

    Returns:
      A scalar `[]`; zero where `w` is all zeros.

    References:
      Yang, Wen and Li, DeepHoyer: learning sparser neural networks, arXiv:1908.09979.
    """
    return jnp.square(l1(w)) / jnp.maximum(l2_squared(w), _EPS)


def log_sum(epsilon: float = 0.1) -> Penalty:
    """A penalty that is steep at zero and nearly flat for large entries.

        penalty(w) = sum over i of log(1 + |w_i| / epsilon)

    The smaller epsilon is, the closer the penalty comes to counting the entries that are not zero.

    Args:
      epsilon: the magnitude at which an entry begins to count as large, above zero.

    Returns:
      `penalty(w) -> scalar`.

    Raises:
      ValueError: if `epsilon` is not above zero.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmeta import sparsity
      >>> print(f"{sparsity.log_sum(0.1)(jnp.array([0.1])):.3f}")  # log 2
      0.693

    References:
      Candes, Wakin and Boyd, Enhancing sparsity by reweighted l1 minimization, arXiv:0711.1612.
    """
    check_epsilon(epsilon)
    return lambda w: _sum([jnp.log1p(_magnitudes(leaf) / epsilon).sum() for leaf in _wide(w)])


def check_epsilon(epsilon: float) -> None:
    """Raise ValueError unless `epsilon` can be the scale of a log-sum."""
    if not epsilon > 0:
        raise ValueError(f"log_sum needs an epsilon above zero, got {epsilon}.")
