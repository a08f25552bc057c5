"""Proximal operators: `prox(w, step) -> w`, the `v` of least `1/2 |v - w|^2 + step * penalty(v)`.

| penalty | operator |
| --- | --- |
| `l1` | `soft_threshold` |
| `l2_squared` | `scale_down` |
| `elastic_net(ratio)` | `elastic_threshold(ratio)` |
| `group_lasso(axis)` | `group_threshold(axis)` |
| `log_sum(epsilon)` | `log_threshold(epsilon)` |
| the number of entries, between two limits | `hard_threshold(least, most)` |
| a limit on the number of entries, or of whole inputs or units | `top_k(share)` |

`hoyer` is a ratio of sums over all of `w`: no closed form of its operator is known to us, and it
has none here.
"""

import math

import jax
import jax.numpy as jnp

from jaxmeta._tree import map_parameters
from jaxmeta.sparsity._penalties import check_epsilon, check_ratio
from jaxmeta.types import Array, Prox, PyTree


def soft_threshold(w: PyTree, step: float | Array) -> PyTree:
    """Move every parameter by `step` towards zero and stop there, which is the prox of `l1`.

        v = sign(w) * max(|w| - step, 0)

    Args:
      w: task parameters, any tree of arrays.
      step: how far to move, zero or more.

    Returns:
      The tree `v`, with exact zeros and the dtypes of `w`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmeta import sparsity
      >>> print(sparsity.soft_threshold(jnp.array([3.0, -0.5, -2.0]), 1.0))
      [ 2. -0. -1.]
    """
    return map_parameters(lambda leaf: _soften(leaf, step), w)


def _soften(leaf: Array, step: float | Array) -> Array:
    return (jnp.sign(leaf) * jnp.maximum(jnp.abs(leaf) - step, 0.0)).astype(leaf.dtype)


def scale_down(w: PyTree, step: float | Array) -> PyTree:
    """Divide every parameter by `1 + 2 step`, which is the prox of `l2_squared`.

    Args:
      w: task parameters, any tree of arrays.
      step: zero or more.

    Returns:
      A tree with the dtypes of `w`. It has no new zeros.
    """
    return map_parameters(lambda leaf: (leaf / (1.0 + 2.0 * step)).astype(leaf.dtype), w)


def elastic_threshold(ratio: float = 0.5) -> Prox:
    """The prox of `elastic_net(ratio)`: a soft threshold, then a division.

    Args:
      ratio: the share of `l1`, in [0, 1].

    Returns:
      `prox(w, step) -> v`.

    Raises:
      ValueError: if `ratio` is outside [0, 1].

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmeta import sparsity
      >>> print(sparsity.elastic_threshold(0.5)(jnp.array([4.0, 0.5]), 2.0))
      [1.5 0. ]

    References:
      Zou and Hastie, Regularization and variable selection via the elastic net, 2005.
    """
    check_ratio(ratio)
    return lambda w, step: scale_down(soft_threshold(w, step * ratio), 0.5 * step * (1.0 - ratio))


def group_threshold(axis: int = -1) -> Prox:
    """The prox of `group_lasso(axis)`, which shortens a group or sets all of it to zero.

        v_g = w_g * max(1 - step * sqrt(size of g) / |w_g|, 0)

    Args:
      axis: the axis along which the entries of a group lie, see `group_lasso`.

    Returns:
      `prox(w, step) -> v`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmeta import sparsity
      >>> kernel = jnp.array([[3.0, 4.0], [0.1, 0.1]])
      >>> (sparsity.group_threshold(axis=-1)(kernel, 0.5) == 0).tolist()
      [[False, False], [True, True]]

    References:
      Yuan and Lin, Model selection and estimation in regression with grouped variables, 2006.
    """

    def shorten(leaf: Array, step: float | Array) -> Array:
        if leaf.ndim < 2:
            return _soften(leaf, step)
        squares = jnp.square(leaf).sum(axis=axis, keepdims=True)
        reach = step * math.sqrt(leaf.shape[axis])
        alive = squares > jnp.square(reach)
        norms = jnp.sqrt(jnp.where(alive, squares, 1.0))
        return jnp.where(alive, leaf * (1.0 - reach / norms), 0.0).astype(leaf.dtype)

    return lambda w, step: map_parameters(lambda leaf: shorten(leaf, step), w)


def log_threshold(epsilon: float = 0.1) -> Prox:
    """The prox of `log_sum(epsilon)`, which removes small entries and hardly moves large ones.

    The derivative of what is minimised vanishes at the larger root r of a quadratic, where it has
    real roots. The answer is r or zero, whichever has the lesser value.

    Args:
      epsilon: the scale of the penalty, above zero.

    Returns:
      `prox(w, step) -> v`.

    Raises:
      ValueError: if `epsilon` is not above zero.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmeta import sparsity
      >>> (sparsity.log_threshold(0.1)(jnp.array([2.0, 0.2]), 0.1) == 0).tolist()
      [False, True]

    References:
      Prater-Bennette, Shen and Tripp, The proximity operator of the log-sum penalty,
      arXiv:2103.02681.
    """
    check_epsilon(epsilon)

    def threshold(leaf: Array, step: float | Array) -> Array:
        size = jnp.abs(leaf)
        square = 0.25 * jnp.square(size + epsilon) - step
        real = square >= 0
        root = 0.5 * (size - epsilon) + jnp.sqrt(jnp.where(real, square, 1.0))
        root = jnp.where(real, jnp.maximum(root, 0.0), 0.0)
        there = 0.5 * jnp.square(root - size) + step * jnp.log1p(root / epsilon)
        moved = jnp.sign(leaf) * root
        return jnp.where(there < 0.5 * jnp.square(size), moved, 0.0).astype(leaf.dtype)

    return lambda w, step: map_parameters(lambda leaf: threshold(leaf, step), w)


def relative(prox: Prox) -> Prox:
    """An operator whose step is measured in units of the root mean square of each leaf.

        v = scale * prox(w / scale, step),   scale = sqrt(mean of w_i^2)

    It serves where the scale of `w` does not matter to the prediction, or where a network can raise
    that scale at will: there, no absolute threshold stays a threshold.

    Args:
      prox: the operator, which is applied to each leaf on its own.

    Returns:
      `prox(w, step) -> v`. No gradient passes through the scale.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxmeta import sparsity
      >>> prox = sparsity.relative(sparsity.soft_threshold)
      >>> print(prox(jnp.array([100.0, 100.0]), 0.5))
      [50. 50.]
    """

    def apply(w: PyTree, step: float | Array) -> PyTree:
        def scaled(leaf: Array) -> Array:
            scale = jax.lax.stop_gradient(jnp.sqrt(jnp.square(leaf).mean()))
            return scale * prox(leaf / jnp.where(scale > 0, scale, 1.0), step)

        return map_parameters(scaled, w)

    return apply


def straight_through(prox: Prox) -> Prox:
    """An operator with the values of `prox` and the gradient of the identity.

    Entries that are set to zero go on learning, as if they had been let through.

    Args:
      prox: the operator.

    Returns:
      `prox(w, step=1.0) -> v`.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxmeta import sparsity
      >>> prox = sparsity.straight_through(sparsity.top_k(0.5))
      >>> w = jnp.array([3.0, 1.0])
      >>> print(prox(w), jax.grad(lambda w: prox(w).sum())(w))
      [3. 0.] [1. 1.]

    References:
      Bengio, Leonard and Courville, Estimating or propagating gradients through stochastic
      neurons, arXiv:1308.3432.
    """

    def apply(w: PyTree, step: float | Array = 1.0) -> PyTree:
        # Zeros stay exact: w - w is.
        return map_parameters(
            lambda leaf, kept: leaf + jax.lax.stop_gradient(kept - leaf), w, prox(w, step)
        )

    return apply
