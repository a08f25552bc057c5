"""Omniglot: 1,623 characters of 50 alphabets, each drawn by 20 people."""

import hashlib
import http.client
import urllib.request
from pathlib import Path
from typing import Literal

from jaxmeta._files import write_atomically
from jaxmeta.datasets._drawings import SIDE, read_drawings
from jaxmeta.datasets._images import ImageClasses

__all__ = ["SIDE", "omniglot", "read_drawings"]

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

    Example:
      >>> from jaxmeta.datasets import omniglot
      >>> omniglot("data", "background", download=True).images.shape  # doctest: +SKIP
      (964, 20, 28, 28)

    References:
      Lake, Salakhutdinov and Tenenbaum, Human-level concept learning through probabilistic program
      induction, Science 350, 2015.
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
