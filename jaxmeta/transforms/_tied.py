"""Whether theta can learn by the implicit gradient, which does not see where a descent starts."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxmeta._jax_compat import Literal
from jaxmeta._tree import merge, parameter_mask, parameters, split
from jaxmeta.types import PyTree


def check_tied(
    start: Callable[[PyTree], PyTree], outcome: Callable[[PyTree], PyTree], theta: PyTree
) -> None:
    """Raise ValueError if something of theta shapes the start, and the gradient never reaches it.

    Programs are traced, nothing is computed: a leaf is out of reach where its gradient is zero
    whatever the numbers are.

    Args:
      start: `theta -> w_0`, what descent moves.
      outcome: `theta -> predictions`, with the gradient that is to be checked.
      theta: meta-parameters.
    """
    paths = [path for path, _ in jax.tree.leaves_with_path(split(theta, parameter_mask(theta))[0])]
    reached, wanted = (_reached(function, theta) for function in (outcome, start))
    lost = [
        jax.tree_util.keystr(path)
        for path, learns, starts in zip(paths, reached, wanted, strict=True)
        if starts and not learns
    ]
    if lost:
        raise ValueError(
            f"differentiate='implicit' with proximity=0 leaves theta{lost[0]} "
            f"{f'and {len(lost) - 1} more leaves ' if len(lost) > 1 else ''}without a gradient: "
            "the implicit gradient does not see where the descent starts, unless a proximal term "
            "ties the solution to it. Give proximity a value above zero, or differentiate "
            "otherwise."
        )


def _reached(function: Callable[[PyTree], PyTree], theta: PyTree) -> list[bool]:
    """For each parameter of theta, whether its gradient depends on anything."""
    moving, constant = split(theta, parameter_mask(theta))

    def probe(moving: PyTree):
        results = parameters(function(merge(moving, constant)))
        return sum(jnp.square(leaf.astype(jnp.float32)).sum() for leaf in results)

    jaxpr = jax.make_jaxpr(jax.grad(probe))(moving).jaxpr
    depends = {*jaxpr.invars, *jaxpr.constvars}
    for eqn in jaxpr.eqns:
        if any(not isinstance(atom, Literal) and atom in depends for atom in eqn.invars):
            depends.update(eqn.outvars)
    return [not isinstance(atom, Literal) and atom in depends for atom in jaxpr.outvars]
