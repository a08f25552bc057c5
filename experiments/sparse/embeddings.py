"""Few-shot tasks in the space of a trained embedding: each drawing is embedded once."""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.images.building import embedding
from experiments.images.data_sets import load_eval_data, load_train_data
from experiments.images.judging import Trained, load_trained
from jaxmeta import Examples, Task, datasets, networks, tasks
from jaxmeta.types import Sampler

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
_BATCH = 250


def embedded(
    dataset: str, data_dir: str | None, *, views: int, out: Path, go_on: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Class-indexed embeddings `[K, M, F]` of training classes and of unseen ones.

    Those of a data set by its shipped prototypical network: of each training class `views`
    jittered drawings, turned ones being classes of their own. They are kept in `out`, and read from
    there by a run that goes on.
    """
    stored = out / "embeddings.npz"
    if go_on and stored.exists():
        with np.load(stored) as arrays:
            return arrays["known"], arrays["unseen"]
    encoder = load_trained(CHECKPOINTS / dataset / "prototypes.ckpt")
    data, config = load_train_data(encoder.config, data_dir, download=False)
    views = min(views, int(data.counts.min()))
    # Mirrored classes would be as many again; turned ones are enough for what is trained here.
    known = _drawings(data, views, jitter=config.jitter, rotations=config.rotations)
    data = load_eval_data(dataset, data_dir, None, download=False)
    unseen = _drawings(data, int(data.counts.min()))
    arrays = {"known": _embed(encoder, known), "unseen": _embed(encoder, unseen)}
    np.savez(stored, **arrays)
    return arrays["known"], arrays["unseen"]


def _drawings(data: datasets.ImageClasses, each: int, **options: Any) -> np.ndarray:
    """`[K, each, 28, 28, 1]`: some drawings of every class, as one wide episode."""
    classes = len(data.images) * (4 if options.get("rotations") else 1)
    sampler = tasks.episodes(data, ways=classes, shots=each - 1, queries=1, **options)
    task = jax.device_get(jax.jit(sampler)(jax.random.key(0)))
    parts = [part.x.reshape(classes, -1, *part.x.shape[1:]) for part in task[:2]]
    return np.concatenate(parts, axis=1)


def _embed(encoder: Trained, drawings: np.ndarray) -> np.ndarray:
    """Embeddings `[K, M, F]` of drawings `[K, M, H, W, 1]`, of mean square one."""
    network = networks.chain(embedding(encoder.config), networks.rms_norm())
    params = [encoder.theta["network"], ()]
    apply = jax.jit(network.apply)
    images, done = drawings.reshape(-1, *drawings.shape[2:]), []
    for start in range(0, len(images), _BATCH):
        # The last batch is filled up: one program for all.
        batch = np.resize(images[start : start + _BATCH], (_BATCH, *images.shape[1:]))
        done.append(np.asarray(apply(params, batch)))
        if start % (40 * _BATCH) == 0:
            sys.stderr.write(f"embedding: {start}/{len(images)} drawings\n")
    return np.concatenate(done)[: len(images)].reshape(*drawings.shape[:2], -1)


def episodes(vectors: np.ndarray, ways: int, queries: int) -> Sampler:
    """1-shot tasks from class-indexed vectors `[K, M, F]`; `sampler.classes(key)` says which."""
    if ways > len(vectors):
        raise ValueError(f"{ways} ways were asked for, but there are {len(vectors)} classes.")
    pool = jnp.asarray(vectors)
    queries = min(queries, pool.shape[1] - 1)

    def rows(x: jax.Array) -> Examples:
        labels = jnp.repeat(jnp.arange(ways), x.shape[1])
        return Examples(x.reshape(len(labels), -1), labels, jnp.ones(len(labels)))

    def classes_of(key: jax.Array) -> jax.Array:
        return jax.random.choice(key, len(pool), (ways,), replace=False)

    def sampler(key: jax.Array) -> Task:
        class_key, row_key = jax.random.split(key)
        classes = classes_of(class_key)
        order = jnp.argsort(jax.random.uniform(row_key, (ways, pool.shape[1])), axis=1)
        x = pool[classes[:, None], order[:, : 1 + queries]]
        return Task(rows(x[:, :1]), rows(x[:, 1:]))

    named: Any = sampler
    named.classes = lambda key: classes_of(jax.random.split(key)[0])
    return sampler
