"""Few-shot episodes drawn on the device from class-indexed images, as a pure function of a key."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta._validation import check_positive
from jaxmeta.datasets._images import ImageClasses
from jaxmeta.tasks._augment import affine_jitter, orient
from jaxmeta.tasks._draws import class_pools, draw_classes, draw_rows, rows_of_classes, saying
from jaxmeta.types import Array, Examples, Sampler, Task

Size = int | tuple[int, int]
"""A number, or a range `(least, most)`."""


def episodes(
    data: ImageClasses,
    *,
    ways: Size = 5,
    shots: Size = 1,
    queries: int = 5,
    rotations: bool = False,
    reflections: bool = False,
    within_group: bool = False,
    jitter: float = 0.0,
) -> Sampler:
    """A sampler of few-shot tasks: C classes, a few support and query images of each.

    Support and query share no image: they are cut from one permutation of the instances of a class.
    The images stay on the device as uint8 and are scaled to [0, 1] when a task is drawn.

    Args:
      data: class-indexed images.
      ways: classes of a task, or a range `(least, most)` from which each task draws its own;
        rows are padded to the most, and labels are -1 where padded.
      shots: support images of each class, or a range likewise.
      queries: query images of each class.
      rotations: count each class turned by 90, 180 and 270 degrees as three more classes.
      reflections: count each class, and each of its turns, mirrored as one more class.
      within_group: draw all classes of a task from one group (one alphabet, one script).
      jitter: size of a random affine map of each image, 0 for none; 1 turns by up to 0.2 radians,
        scales and shears by up to 0.2 and shifts by up to 2 pixels.

    Returns:
      `sampler(key) -> Task`: support `[C * shots, H, W, 1]`, query `[C * queries, H, W, 1]`.
      `sampler.classes(key)` says which of the data's classes these are, `[C]`, for intervals over
      classes (`evaluate`), and `sampler.group(key)` of which group the first of them is, `[]`.

    Raises:
      ValueError: if the data cannot supply what is asked for, or an argument is out of its range.

    Example:
      >>> import jax
      >>> import numpy as np
      >>> from jaxmeta.datasets import ImageClasses
      >>> from jaxmeta.tasks import episodes
      >>> images = np.zeros((3, 2, 8, 8), np.uint8)
      >>> counts, groups = np.full(3, 2, np.int32), np.zeros(3, np.int32)
      >>> data = ImageClasses(images, counts, groups, ("Greek",), ("alpha", "beta", "gamma"))
      >>> sampler = episodes(data, ways=2, shots=1, queries=1)
      >>> sampler(jax.random.key(0)).support.x.shape
      (2, 8, 8, 1)

    References:
      Vinyals et al., Matching networks for one shot learning, arXiv:1606.04080.
    """
    least_ways, most_ways = _range("ways", ways)
    least_shots, most_shots = _range("shots", shots)
    check_positive(queries=queries)
    _check_images(data, rotations, jitter)
    pool, pool_sizes = class_pools(data, within_group)
    orientations = _orientations(rotations, reflections)
    _check_supply(data, pool_sizes * len(orientations), most_ways, most_shots + queries)

    images, counts = jnp.asarray(data.images), jnp.asarray(data.counts)

    draw = partial(draw_classes, pool, pool_sizes, len(orientations), most_ways)

    def with_classes(key: Array) -> tuple[Task, Array]:
        class_key, size_key, row_key, jitter_key = jax.random.split(key, 4)
        classes, which = draw(class_key)
        rows = draw_rows(row_key, counts[classes], data.images.shape[1], most_shots + queries)
        x = _scaled(images[classes[:, None], rows])
        x = jax.vmap(orient)(x, orientations[which]) if len(orientations) > 1 else x
        x = _jittered(jitter_key, x, jitter) if jitter else x
        ways_key, shots_key = jax.random.split(size_key)
        num_ways = jax.random.randint(ways_key, (), least_ways, most_ways + 1)
        num_shots = jax.random.randint(shots_key, (), least_shots, most_shots + 1)
        support = rows_of_classes(x[:, :most_shots], num_ways, num_shots)
        return Task(support, rows_of_classes(x[:, most_shots:], num_ways, queries)), classes

    # Of fewer ways than the most some classes are padding.
    if least_ways < most_ways:
        return lambda key: with_classes(key)[0]
    return saying(with_classes, data.groups)


def class_batches(
    data: ImageClasses,
    *,
    batch_size: int = 256,
    rotations: bool = False,
    reflections: bool = False,
    jitter: float = 0.0,
) -> Sampler:
    """A sampler of ordinary supervised batches over all classes, for `pretrain_objective`.

    Args:
      data: class-indexed images.
      batch_size: images of a batch.
      rotations: count turned classes as classes of their own, as in `episodes`; class `k` turned
        by `r` quarters is label `r * K + k`.
      reflections: mirrored classes likewise; their labels follow those of all turns.
      jitter: as in `episodes`.

    Returns:
      `sampler(key) -> Task` whose query set is the batch; its support set is the batch as well,
      and is not to be read.

    Raises:
      ValueError: if the data are no images by class, or an argument is out of its range.

    Example:
      >>> import jax
      >>> import numpy as np
      >>> from jaxmeta.datasets import ImageClasses
      >>> from jaxmeta.tasks import class_batches
      >>> images = np.zeros((3, 2, 8, 8), np.uint8)
      >>> counts, groups = np.full(3, 2, np.int32), np.zeros(3, np.int32)
      >>> data = ImageClasses(images, counts, groups, ("Greek",), ("alpha", "beta", "gamma"))
      >>> class_batches(data, batch_size=4)(jax.random.key(0)).query.x.shape
      (4, 8, 8, 1)
    """
    check_positive(batch_size=batch_size)
    _check_images(data, rotations, jitter)
    images, counts = jnp.asarray(data.images), jnp.asarray(data.counts)
    num_classes = len(data.images)
    orientations = _orientations(rotations, reflections)

    def sampler(key: Array) -> Task:
        label_key, row_key, jitter_key = jax.random.split(key, 3)
        labels = jax.random.randint(label_key, (batch_size,), 0, num_classes * len(orientations))
        classes = labels % num_classes
        rows = jax.random.randint(row_key, (batch_size,), 0, counts[classes])
        x = _scaled(images[classes, rows])
        if len(orientations) > 1:
            which = orientations[labels // num_classes]
            x = jax.vmap(lambda image, way: orient(image[None], way)[0])(x, which)
        x = affine_jitter(jitter_key, x, jitter) if jitter else x
        batch = Examples(x, labels, jnp.ones(batch_size))
        return Task(support=batch, query=batch)

    return sampler


def _scaled(images: Array) -> Array:
    """uint8 `[..., H, W]` to float `[..., H, W, 1]` in [0, 1]."""
    return images[..., None].astype(jnp.float32) / 255.0


def _orientations(rotations: bool, reflections: bool) -> Array:
    """The orientations that count as classes, as `orient` numbers them."""
    turns = np.arange(4 if rotations else 1)
    return jnp.asarray(np.concatenate([turns, turns + 4]) if reflections else turns)


def _range(name: str, size: Size) -> tuple[int, int]:
    bounds = (size, size) if isinstance(size, (int, np.integer)) else tuple(size)
    if len(bounds) != 2 or not 1 <= bounds[0] <= bounds[1]:
        raise ValueError(f"{name} must be 1 or more, or a range (least, most), got {size}.")
    least, most = bounds
    return least, most


def _check_images(data: ImageClasses, rotations: bool, jitter: float) -> None:
    if data.images.ndim != 4 or data.images.dtype != np.uint8:
        raise ValueError(
            "episodes reads uint8 images [K, M, H, W] (255 = ink), got "
            f"{data.images.dtype} {data.images.shape}."
        )
    if not data.images.size or data.counts.min() < 1:
        raise ValueError(
            f"episodes needs at least one image of each class, got images {data.images.shape} and "
            f"counts {data.counts}; leave empty classes out."
        )
    if rotations and data.images.shape[2] != data.images.shape[3]:
        raise ValueError(
            f"Only square images can be turned, got {data.images.shape[2:]}: rotations=False."
        )
    if not jitter >= 0:
        raise ValueError(f"jitter must be zero or more, got {jitter}.")


def _check_supply(data: ImageClasses, pool_sizes: np.ndarray, ways: int, per_class: int) -> None:
    if ways > pool_sizes.min():
        raise ValueError(
            f"episodes was asked for {ways} ways, but the data hold {pool_sizes.min()} classes"
            f"{' in the smallest group' if len(pool_sizes) > 1 else ''} (symmetries included); ask "
            "for fewer ways, or for rotations=True, or leave out groups that are too small "
            "(datasets.keep_groups)."
        )
    if per_class > data.counts.min():
        raise ValueError(
            f"episodes was asked for shots + queries = {per_class} images of each class, but the "
            f"smallest class holds {data.counts.min()}; ask for fewer shots or queries."
        )


def _jittered(key: Array, x: Array, jitter: float) -> Array:
    """Each of the images `[C, each, H, W, 1]` moved by a map of its own."""
    return affine_jitter(key, x.reshape(-1, *x.shape[2:]), jitter).reshape(x.shape)
