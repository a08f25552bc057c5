"""The inner loop: descent on `w` by an optax optimiser, and every way to differentiate it.

    w_{k+1} = w_k + tx.update(grad_w objective(w_k, context));   w_K is returned

The gradient of `w_K` in the start and in the context, which is what meta-optimisation asks for, is
exact, cheap or estimated as `differentiate` says:

| `differentiate` | gradient | memory grows with | work |
| --- | --- | --- | --- |
| `"full"` | exact | the steps, with all that a step computes | 1 |
| `"remat"` | exact | the steps, with `w` alone | one more forward pass |
| `"mixed"` | exact | the steps, with `w` alone | forward over reverse |
| `"nested"`, `"nested_mixed"` | exact | the square root of the steps | one or two more passes |
| `"first_order"` | the step's gradient is a constant | nothing | less than 1 |
| `Truncated(last)` | exact in the last steps, first-order before | `last` | |
| `Implicit(...)` | exact where the gradient is zero | nothing | a linear solve |
"""

from jaxmeta._tree import merge
from jaxmeta.inner._descent import Descent, descend
from jaxmeta.inner._differentiation import (
    Differentiate,
    Evolution,
    Implicit,
    Truncated,
    evolve,
    resolve,
)
from jaxmeta.inner._optimisers import LearnedOptimiser, MaskedUpdates, learned_rates, masked_updates

__all__ = [
    "Descent",
    "Differentiate",
    "Evolution",
    "Implicit",
    "LearnedOptimiser",
    "MaskedUpdates",
    "Truncated",
    "descend",
    "evolve",
    "learned_rates",
    "masked_updates",
    "merge",
    "resolve",
]


def __dir__() -> list[str]:
    return __all__
