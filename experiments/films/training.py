"""Training: films described with each user and without, and one loss for both questions."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.documents import to_json, write_atomically
from experiments.common.run import Training, run
from experiments.films import learner
from experiments.films.data import LIKED, tasks_of
from experiments.films.table import Films
from jaxmeta import meta_objective

HIDDEN = 32
RATE, DECAY = 5e-3, 1.0
TASKS = 32
RANKING = 0.03
"""Weight of the ranking beside the rating, whose loss is a seventh of it."""


def described(
    path: Path, key: Any, *, go_on: bool, describe: Callable[[], tuple[Films, np.ndarray]]
) -> tuple[Films, np.ndarray]:
    """The table of films and the users' blocks; from a file if it was made for the same key."""
    key = to_json(key)
    if go_on and path.exists():
        with np.load(path) as arrays:
            if str(arrays["key"]) == key:
                return Films(*(arrays[name] for name in Films._fields)), arrays["blocks"]
    films, blocks = describe()
    content = io.BytesIO()
    np.savez(content, key=key, blocks=blocks, **films._asdict())
    write_atomically(path, content.getvalue())
    return films, blocks


def loss(z: jax.Array, y: jax.Array, mask: jax.Array) -> jax.Array:
    """Squared error of the films that were rated, and of a choice of all films the liked ones."""
    seen = y[:, 1] * mask
    liked = jnp.where(y[:, 0] >= LIKED, seen, 0.0)
    error = (jnp.square(z[:, 0] - y[:, 0]) * seen).sum() / jnp.maximum(seen.sum(), 1.0)
    chosen = jax.nn.log_softmax(jnp.where(mask > 0, z[:, 1], -1e9))
    return error - RANKING * (chosen * liked).sum() / jnp.maximum(liked.sum(), 1.0)


def train(
    films: Films,
    matrix: np.ndarray,
    blocks: np.ndarray,
    *,
    name: str = "taste",
    seed: int,
    steps: int,
    out: Path,
    go_on: bool,
) -> tuple[Any, float]:
    """theta after so many steps over the training users, and the seconds that they took."""
    model = learner.taste(films, HIDDEN, extendable=False)
    tx = optax.adamw(optax.cosine_decay_schedule(RATE, max(1, steps)), weight_decay=DECAY)
    state, seconds = run(
        Training(
            model,
            meta_objective(model, loss, report_density=False),
            tasks_of(matrix, blocks),
            tx,
        ),
        name=name,
        config={"seed": seed, "steps": steps, "hidden": HIDDEN, "decay": DECAY, "tasks": TASKS},
        seed=seed,
        num_steps=steps,
        tasks_per_step=TASKS,
        out=out,
        go_on=go_on,
    )
    return state.theta, seconds
