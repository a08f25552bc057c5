"""Class-indexed images: the one form in which every image data set of the library arrives."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np


class ImageClasses(NamedTuple):
    """Images by class, in host memory. K classes, M instances a class at most.

    Attributes:
      images: uint8 `[K, M, H, W]`, 255 = ink; instances past a class's count are zero.
      counts: int32 `[K]`, instances present of each class.
      groups: int32 `[K]`, index into `group_names` (an alphabet, a script).
      group_names: names of the groups.
      class_names: a name for each class `[K]`.
    """

    images: np.ndarray
    counts: np.ndarray
    groups: np.ndarray
    group_names: tuple[str, ...]
    class_names: tuple[str, ...]


def keep_groups(data: ImageClasses, groups: Iterable[int]) -> ImageClasses:
    """Keep the classes of some groups, for example to split a data set by alphabet.

    Args:
      data: class-indexed images.
      groups: indices into `data.group_names`; order and repetition play no part.

    Returns:
      The classes of these groups, which are numbered anew in ascending order.

    Raises:
      ValueError: if there is no such group, or none is asked for.

    Example:
      >>> import numpy as np
      >>> from jaxmeta.datasets import ImageClasses, keep_groups
      >>> images = np.zeros((3, 2, 8, 8), np.uint8)
      >>> counts, groups = np.full(3, 2, np.int32), np.array([0, 1, 1], np.int32)
      >>> data = ImageClasses(images, counts, groups, ("Greek", "Latin"), ("alpha", "a", "b"))
      >>> keep_groups(data, [1]).class_names
      ('a', 'b')
    """
    chosen = sorted(set(groups))
    outside = [group for group in chosen if not 0 <= group < len(data.group_names)]
    if outside or not chosen:
        raise ValueError(
            f"keep_groups needs indices in 0..{len(data.group_names) - 1}, got {chosen}."
        )
    rows = np.flatnonzero(np.isin(data.groups, chosen))
    return ImageClasses(
        images=data.images[rows],
        counts=data.counts[rows],
        groups=np.searchsorted(chosen, data.groups[rows]).astype(np.int32),
        group_names=tuple(data.group_names[group] for group in chosen),
        class_names=tuple(data.class_names[row] for row in rows),
    )


def require_pillow() -> Any:
    """Pillow's Image module, which reads and draws the pictures.

    Raises:
      ImportError: if Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("Reading images needs Pillow: pip install 'jaxmeta[plots]'.") from error
    return Image
