"""Omniglot, and any zip or folder of character drawings in its layout.

    .../<alphabet>/<character>/<drawing>.png, dark ink on light paper

References:
  Lake, Salakhutdinov and Tenenbaum, Human-level concept learning through probabilistic program
  induction, Science 350, 2015.
"""

import hashlib
import http.client
import io
import urllib.request
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from jaxmeta.files import write_atomically
from jaxmeta.tasks.images import ImageClasses, require_pillow

SIDE = 28
"""Side of the square images, in pixels; drawings are averaged down to it (box filter)."""

_SOURCE = "https://github.com/brendenlake/omniglot/raw/master/python/"
_MD5 = {
    "background": "68d2efa1b9178cc56df9314c21c6e718",
    "evaluation": "6b91aef0f799c5bb55b94e3f2daec811",
}


def omniglot(
    data_dir: Path | str,
    subset: Literal["background", "evaluation"] = "background",
    *,
    download: bool = False,
) -> ImageClasses:
    """Omniglot's background (964 characters) or evaluation set, grouped by alphabet.

    Args:
      data_dir: folder of the official archives `images_background.zip`, `images_evaluation.zip`,
        or of the folders they unpack to.
      subset: which of the two.
      download: fetch a missing archive, check it and put it into `data_dir`.

    Returns:
      uint8 images `[K, 20, 28, 28]`, averaged down by area, 255 = ink.

    Raises:
      ValueError: if the archive is missing, cannot be fetched, or is damaged; the message says
        what to do.
    """
    if subset not in _MD5:
        raise ValueError(f"omniglot has subsets {sorted(_MD5)}, got {subset!r}.")
    archive = Path(data_dir) / f"images_{subset}.zip"
    folder = archive.with_suffix("")
    if not archive.exists() and folder.is_dir():
        return read_drawings(folder)
    if not archive.exists() and download:
        _download(subset, archive)
    if not archive.exists():
        raise ValueError(
            f"There is no {archive}. Fetch it from {_SOURCE}{archive.name} into that folder, or "
            "pass download=True (--download) on a machine with a network."
        )
    return read_drawings(archive)


def read_drawings(path: Path | str) -> ImageClasses:
    """Read characters from a zip or a folder laid out as `.../<alphabet>/<character>/<any>.png`.

    Args:
      path: the zip file or the folder.

    Returns:
      uint8 images `[K, M, 28, 28]`, 255 = ink, M being the drawings of the largest class.

    Raises:
      ValueError: if there is nothing of that layout, or an image cannot be read.
    """
    drawings: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    for parts, content in sorted(_png_files(Path(path))):
        drawings[parts[-3], parts[-2]].append(_shrink(content, "/".join(parts)))
    if not drawings:
        raise ValueError(f"{path} holds no <alphabet>/<character>/<drawing>.png.")
    classes = sorted(drawings)
    alphabets = sorted({alphabet for alphabet, _ in classes})
    counts = np.array([len(drawings[name]) for name in classes], np.int32)
    images = np.zeros((len(classes), counts.max(), SIDE, SIDE), np.uint8)
    for row, name in zip(images, classes, strict=True):
        row[: len(drawings[name])] = drawings[name]
    return ImageClasses(
        images=images,
        counts=counts,
        groups=np.array([alphabets.index(alphabet) for alphabet, _ in classes], np.int32),
        group_names=tuple(alphabets),
        class_names=tuple("/".join(name) for name in classes),
    )


def _png_files(path: Path) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """`(path parts, content)` of each drawing that lies at least two folders deep."""
    if path.is_dir():
        for file in path.rglob("*.png"):
            parts = (path.name, *file.relative_to(path).parts)
            if len(parts) >= 3:
                yield parts, _read(file)
        return
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                parts = tuple(name.split("/"))
                if name.endswith(".png") and len(parts) >= 3 and parts[0] != "__MACOSX":
                    yield parts, archive.read(name)
    except FileNotFoundError:
        raise ValueError(f"There is no file or folder {path}.") from None
    except Exception as error:  # zipfile, zlib, lzma and struct raise each their own
        raise ValueError(
            f"{path} is not a readable zip ({error}); delete it and fetch it again."
        ) from error


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file} could not be read ({error}); mend or remove it.") from error


def _shrink(content: bytes, name: str) -> np.ndarray:
    """One drawing as uint8 `[28, 28]`, averaged by area, ink 255."""
    image_module = require_pillow()
    try:
        drawing = image_module.open(io.BytesIO(content)).convert("L")
    except Exception as error:  # OSError, SyntaxError, or Pillow's own for one too large
        raise ValueError(f"{name} is not a readable PNG ({error}); fetch it again.") from error
    return 255 - np.asarray(drawing.resize((SIDE, SIDE), image_module.Resampling.BOX))


def _download(subset: str, archive: Path) -> None:
    url = _SOURCE + archive.name
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            content = response.read()
    except (OSError, http.client.HTTPException) as error:  # the latter where it breaks off
        raise ValueError(
            f"{url} could not be fetched ({error}). Without a network, copy {archive.name} into "
            f"{archive.parent} by hand, or use the embedded glyphs."
        ) from error
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != _MD5[subset]:
        raise ValueError(
            f"{url} came with the wrong checksum, so nothing was written; try again, or copy "
            f"{archive.name} into {archive.parent} by hand."
        )
    write_atomically(archive, content)
