"""Drawings of characters, read from a zip or a folder.

.../<alphabet>/<character>/<drawing>.png, dark ink on light or transparent paper
"""

import io
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxmeta.datasets._images import ImageClasses, require_pillow
from jaxmeta.datasets._trees import Parts, Tree, opened, split

SIDE = 28
"""Side of the square images, in pixels; drawings are averaged down to it (box filter)."""

_COMPANIONS = {
    "__macosx",
    "icon\r",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "@eadir",
}
"""What macOS, Windows, Linux and network drives put beside files, in lower case."""

_NO_PNG = "not named *.png"
_SHALLOW = "fewer than two folders deep"
_EMPTY = "an empty folder"
_HIDDEN = "hidden or put there by an operating system"
_LOOP = "a link to a folder around it"
_SAID = (_NO_PNG, _SHALLOW, _EMPTY)
"""What may be a mistake; the rest lies in everybody's folders, and nobody misses it."""


class _File(NamedTuple):
    """Folders and own name in Unicode's form C; the name as it was found; its place in the tree."""

    parts: Parts
    name: str
    place: Any


def read_drawings(path: Path | str) -> ImageClasses:
    """Read characters from a zip or a folder laid out as `.../<alphabet>/<character>/<any>.png`.

    A folder and a zip of it give the same, in the order of the names. Names are compared in
    Unicode's form C, and `.png` is taken in any case; links are followed, and of members of a zip
    that have one name the last counts. A folder that holds only characters is itself the alphabet.
    Hidden files and folders (`.git`, `.ipynb_checkpoints`, `._1.png`) and those that operating
    systems put there (`__MACOSX`, `Thumbs.db`) are left out. Transparent paper is white, and 16
    bits are scaled to 8.

    Args:
      path: the zip file or the folder.

    Returns:
      uint8 images `[K, M, 28, 28]`, 255 = ink, M being the drawings of the largest class.

    Raises:
      ValueError: if there is nothing of that layout, or an image cannot be read.

    Warns:
      UserWarning: if other files, drawings outside of that layout or empty folders are left out,
        or a folder is taken for a character that holds characters too; it counts them.

    Example:
      >>> from jaxmeta.datasets import read_drawings
      >>> read_drawings("drawings.zip").class_names  # doctest: +SKIP
      ('Greek/alpha', 'Greek/beta')
    """
    path = Path(path)
    drawings: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    with opened(path) as tree:
        files, left_out = _sort_out(path, tree)
        for file in files:
            with _naming(path, file.name):
                content = tree.read(file.place)
            drawings[file.parts[-3], file.parts[-2]].append(_shrink(content, path, file.name))
    if not drawings:
        raise ValueError(f"{path} holds no <alphabet>/<character>/<drawing>.png.{_count(left_out)}")
    doubtful = _count_doubtful(files)
    if doubtful or any(left_out[reason] for reason in _SAID):
        warnings.warn(
            f"{path} holds drawings, <alphabet>/<character>/<drawing>.png."
            f"{_count(left_out)}{doubtful}",
            stacklevel=2,
        )
    return _stack(drawings)


def _stack(drawings: dict[tuple[str, str], list[np.ndarray]]) -> ImageClasses:
    """Images `[28, 28]` by alphabet and character, in the order of these names."""
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


def _sort_out(path: Path, tree: Tree) -> tuple[list[_File], dict[str, list[str]]]:
    """The drawings in order, and the names of what is left out, by reason."""
    found: list[_File] = []
    left_out: dict[str, list[str]] = defaultdict(list)
    pending: list[tuple[_File, tuple]] = [(_File((), "", tree.root), ())]
    while pending:
        folder, around = pending.pop()
        around = (*around, folder.place)
        with _naming(path, folder.name):
            children = tree.children(folder.place)
        hidden = 0
        for name, place in children:
            own = split(unicodedata.normalize("NFC", name))
            file = _File((*folder.parts, *own), f"{folder.name}/{name}".lstrip("/"), place)
            is_folder = tree.is_folder(place)
            reason = _why_left_out(own, is_folder, place in around)
            hidden += reason == _HIDDEN
            if reason:
                left_out[reason].append(file.name)
            elif is_folder:
                pending.append((file, around))
            else:
                found.append(file)
        if folder.name and hidden == len(children):
            left_out[_EMPTY].append(folder.name)
    drawings = _deep_enough(found, tree.name)
    left_out[_SHALLOW] = sorted({file.name for file in found} - {file.name for file in drawings})
    return sorted(drawings, key=lambda file: file[:2]), left_out


def _deep_enough(found: list[_File], root: str | None) -> list[_File]:
    """Files two folders deep; where there is none, those one deep, the root being the alphabet."""
    deep = [file for file in found if len(file.parts) >= 3]
    if deep or not root:
        return deep
    root = unicodedata.normalize("NFC", root)
    return [file._replace(parts=(root, *file.parts)) for file in found if len(file.parts) == 2]


def _why_left_out(parts: Parts, is_folder: bool, is_around: bool) -> str:
    """The reason why a file is no drawing, or a folder holds none; empty if there is no reason."""
    if any(part.startswith(".") or part.lower() in _COMPANIONS for part in parts):
        return _HIDDEN
    if is_folder:
        return _LOOP if is_around else ""
    return "" if "".join(parts[-1:]).lower().endswith(".png") else _NO_PNG


def _count(left_out: dict[str, list[str]]) -> str:
    """The sentence that counts what is left out, with an example or two of each kind."""
    kinds = [
        f"{len(left_out[reason])} {reason} ({_examples(left_out[reason])})"
        for reason in (*_SAID, _HIDDEN, _LOOP)
        if left_out[reason]
    ]
    return f" Left out: {'; '.join(kinds)}." if kinds else ""


def _count_doubtful(files: list[_File]) -> str:
    """The sentence on characters that hold characters: a picture of an alphabet lies among them."""
    characters = {file.parts[:-1] for file in files}
    both = ["/".join(folder) for folder in characters & {folder[:-1] for folder in characters}]
    if not both:
        return ""
    return f" Taken for a character, but holding characters too: {len(both)} ({_examples(both)})."


def _examples(names: list[str]) -> str:
    return ", ".join(sorted(names)[:2]) + ", ..." * (len(names) > 2)


@contextmanager
def _naming(path: Path, name: str) -> Iterator[None]:
    """Say which file or folder could not be read."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"{path / name} could not be read ({error}); mend or remove it."
        ) from error


def _shrink(content: bytes, path: Path, name: str) -> np.ndarray:
    """One drawing as uint8 `[28, 28]`, averaged by area, ink 255."""
    image_module = require_pillow()
    try:
        drawing = _grey(content)
    except Exception as error:  # OSError, SyntaxError, or Pillow's own for one too large
        raise ValueError(
            f"{path / name} is not a readable PNG ({error}); fetch it again."
        ) from error
    return 255 - np.asarray(drawing.resize((SIDE, SIDE), image_module.Resampling.BOX))


def _grey(content: bytes) -> Any:
    """A picture in 8 bits of grey, laid on white paper, as viewers show it."""
    image_module = require_pillow()
    image = image_module.open(io.BytesIO(content))
    clear = image.info.get("transparency")
    if image.mode.startswith("I;16"):  # Pillow would clip it
        pixels = np.asarray(image).astype(np.uint32)
        grey = (pixels * 255 + 32767) // 65535
        return image_module.fromarray(np.where(pixels == clear, 255, grey).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("its pixels have 32 bits, of which none is known to be white")
    if image.has_transparency_data:
        if image.mode in ("1", "L", "RGB") and image.format == "PNG":
            # Pillow scales the pixels to 8 bits, but leaves the colour that is clear as it was.
            image.info["transparency"] = _in_8_bits(clear, bits=content[24])
        paper = image_module.new("RGBA", image.size, "white")
        image = image_module.alpha_composite(paper, image.convert("RGBA"))
    return image.convert("L")


def _in_8_bits(colour: Any, *, bits: int) -> Any:
    """A level, or a tuple of three, scaled as Pillow scales pixels; it may have done so itself."""
    if isinstance(colour, tuple):
        return tuple(_in_8_bits(level, bits=bits) for level in colour)
    return colour >> 8 if bits == 16 else min(255, colour * 255 // (2**bits - 1))
