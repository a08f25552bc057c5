"""Any function of x as StableHLO, for whatever runs XLA programs."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxmeta.types import Array


def stablehlo(
    function: Callable[[Array], Array],
    shape: Sequence[int],
    *,
    platforms: Sequence[str] = ("cpu", "cuda"),
) -> bytes:
    """`function(x [N, *shape])`, float32, lowered ahead for any number of rows.

    What it closes over, theta and w, becomes constants of the program. JAX writes such files by a
    package that `pip install 'jaxmeta[export]'` brings.

    Args:
      function: `x -> z`, such as `lambda x: learner.predict(theta, w, x)`.
      shape: of one row of x.
      platforms: what it is to run on.

    Returns:
      What `jax.export.deserialize(...).call(x)` runs, in another process and on other machines.
    """
    (rows,) = jax.export.symbolic_shape("rows")
    x = jax.ShapeDtypeStruct((rows, *shape), jnp.float32)
    exported = jax.export.export(jax.jit(function), platforms=tuple(platforms))(x)
    return bytes(exported.serialize())
