"""A small tabular meta-net, and tables for it."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.tabular import meta_net
from jaxmeta.types import Examples, Task

ROWS, QUERIES, COLUMNS, WAYS, LANDMARKS = 24, 8, 3, 3, 4
SIZES = {"size": 8, "cell_size": 4, "num_layers": 1, "num_heads": 2}
LEARNER = meta_net.tabular(ways=WAYS, num_landmarks=LANDMARKS, **SIZES)
DESCRIPTION = meta_net.TableDescription(jnp.asarray([0.0, 0.0, 1.0]), jnp.int32(0))


def table(seed=0, ways=WAYS):
    """Two numeric columns, one of them with values missing, and codes of three levels."""
    rng = np.random.default_rng(seed)
    number = ROWS + QUERIES
    x = np.stack(
        [rng.normal(size=number), rng.exponential(size=number), rng.integers(0, 3, number)]
    )
    known = np.ones_like(x)
    known[1] = rng.random(number) > 0.2
    y = (x[0] + (x[2] == 1) > 0.2).astype(int) + (x[2] == 2) * (ways - 2)
    y[:ways] = np.arange(ways)
    rows = np.stack([x * known, known]).transpose(2, 0, 1).astype(np.float32)
    parts = [
        Examples(rows[part], y[part].astype(np.int32), np.ones(len(y[part]), np.float32))
        for part in (slice(ROWS), slice(ROWS, None))
    ]
    return jax.tree.map(jnp.asarray, Task(*parts, DESCRIPTION))


@jax.jit
def answer(theta, support, x, description):
    w = LEARNER.adapt(theta, support, description=description)
    return LEARNER.predict(theta, w, x), w
