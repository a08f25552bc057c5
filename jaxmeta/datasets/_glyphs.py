"""An image data set that needs no download: letters of many scripts, in the fonts of matplotlib.

One class is one letter, one image is one font under a seeded distortion, and the splits hold other
scripts, as Omniglot's hold other alphabets: meta-training never sees a script of the test split.
"""

import contextlib
import hashlib
import io
import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxmeta._files import write_atomically
from jaxmeta.datasets._glyph_drawing import SIDE, dilate, draw_letters, render_class, render_upright
from jaxmeta.datasets._images import ImageClasses

SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("LATIN", "CYRILLIC", "CANADIAN SYLLABICS", "ARABIC"),
    "test": ("GREEK", "ARMENIAN", "HEBREW", "LAO"),
    # Asomtavruli, Nuskhuri and Mkhedruli: three alphabets, though one block of Unicode.
    "validation": ("GEORGIAN CAPITAL", "GEORGIAN SMALL", "GEORGIAN LETTER"),
}
"""The scripts of each split, as Unicode names begin. Of letters that look alike the first stays."""

INSTANCES = 20
MIN_FONTS = 4
SAME_SHAPE = 0.046  # share of uncovered ink below which two letters are one class, see `_distinct`

_FORMAT = 1  # part of the cache's file name: raise it with any change to the pixels or the classes
_FULL_FONTS = ("DejaVuSans", "DejaVuSerif", "STIXGeneral")
# Computer Modern keeps symbols at the code points of other letters: only its ASCII can be trusted.
_ASCII_FONTS = ("cmb10", "cmmi10", "cmr10", "cmss10", "cmti10", "cmtt10")
_NOT_BASE = (" WITH ", " LIGATURE ", " FRAGMENT")
_SCRIPTS = tuple(script for scripts in SPLITS.values() for script in scripts)
_Atlas = tuple[np.ndarray, np.ndarray]  # of all splits: code points `[K]`, images `[K, M, 28, 28]`


def glyphs(split: str, *, cache_dir: str | os.PathLike[str] | None = None) -> ImageClasses:
    """Letters of many scripts as 28 x 28 grey images, 20 of each, drawn on this machine.

    Each image shows the letter in one of the fonts that hold it, scaled to a common box, rotated,
    sheared, stretched, moved and thickened or thinned by amounts seeded by the code point and the
    number of the image. Letters that look alike (Latin A, Greek Alpha, Cyrillic A) are one class
    over all splits together.

    Args:
      split: "train", "validation" or "test"; `SPLITS` says which scripts each holds.
      cache_dir: folder for the images, which take seconds to draw; by default `jaxmeta` in
        `$XDG_CACHE_HOME` or `~/.cache`. Where it cannot be written, nothing is kept.

    Returns:
      `images [K, 20, 28, 28]` with ink 255 on paper 0, grouped by script.

    Raises:
      ValueError: if there is no such split.
      ImportError: if matplotlib is missing, or Pillow where there is something to draw.

    Example:
      >>> from jaxmeta.datasets import glyphs
      >>> glyphs("test").images.shape[1:]  # doctest: +SKIP
      (20, 28, 28)
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is not one of {', '.join(map(repr, sorted(SPLITS)))}.")
    fonts = _find_fonts()
    points, images = _cached(_cache_file(fonts, cache_dir), lambda: _render(fonts))
    scripts = SPLITS[split]
    rows = [row for row, point in enumerate(points) if _script(point) in scripts]
    return ImageClasses(
        images=images[rows],
        counts=np.full(len(rows), INSTANCES, np.int32),
        groups=np.array([scripts.index(_script(point)) for point in points[rows]], np.int32),
        group_names=scripts,
        class_names=tuple(f"U+{p:04X} {unicodedata.name(chr(p))}" for p in points[rows]),
    )


def _script(point: int) -> str:
    """The script of `SPLITS` that this character's name begins with, or ""."""
    name = unicodedata.name(chr(point), "")
    return next((script for script in _SCRIPTS if name.startswith(script + " ")), "")


def _is_base_letter(point: int) -> bool:
    """Whether this is a letter of a known script, not accented and not a form of another."""
    char = chr(point)
    if unicodedata.category(char) not in ("Lu", "Ll", "Lo") or not _script(point):
        return False
    bare = unicodedata.normalize("NFKD", char) == char
    return bare and not any(part in unicodedata.name(char) for part in _NOT_BASE)


def _find_fonts() -> dict[str, Path]:
    """The usable font files of matplotlib by name, sorted."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            "glyphs draws the fonts that come with matplotlib: pip install 'jaxmeta[plots]'."
        ) from error
    # Chosen by name: the folder also holds symbols, and a font of placeholders for every character.
    found = sorted(Path(matplotlib.get_data_path(), "fonts", "ttf").glob("*.ttf"))
    return {
        path.stem: path
        for path in found
        if path.stem in _ASCII_FONTS
        or (path.stem.startswith(_FULL_FONTS) and "Display" not in path.stem)
    }


def _read_letters(fonts: Mapping[str, Path]) -> dict[int, dict[str, Any]]:
    """Cropped Pillow drawings, code point to font name to drawing, first the letters to prefer."""
    from matplotlib.ft2font import FT2Font

    letters: dict[int, dict[str, Any]] = {}
    for name, path in fonts.items():
        points = [point for point in FT2Font(str(path)).get_charmap() if _is_base_letter(point)]
        if name in _ASCII_FONTS:
            points = [point for point in points if point < 128]
        for point, drawing in draw_letters(path, points).items():
            letters.setdefault(point, {})[name] = drawing
    common = [point for point, drawings in letters.items() if len(drawings) >= MIN_FONTS]
    common.sort(key=lambda point: (_SCRIPTS.index(_script(point)), point))
    return {point: letters[point] for point in common}


def _render(fonts: Mapping[str, Path]) -> _Atlas:
    """Draws every class of every split."""
    letters = _read_letters(fonts)
    kept = _distinct(letters, fonts)
    images = [render_class(point, list(letters[point].values()), INSTANCES) for point in kept]
    return np.array(kept, np.int32), np.stack(images)


def _distinct(letters: Mapping[int, Mapping[str, Any]], fonts: Iterable[str]) -> list[int]:
    """The code points of `letters` left when each that looks like an earlier one is dropped.

    How unlike another a letter is: the share of its ink, over the fonts that hold both, left bare
    when the other, a little thickened, is laid upon it. That sees a dot or a tail too many, but not
    a size or a weight; a correlation of pixels sees mostly weight.
    """
    points = list(letters)
    bare, ink = np.zeros((2, len(points), len(points)), np.float32)
    for font in fonts:
        rows = [row for row, point in enumerate(points) if font in letters[point]]
        here = render_upright([letters[points[row]][font] for row in rows])
        paper = 1 - dilate(here).reshape(len(rows), -1)
        here = here.reshape(len(rows), -1)
        bare[np.ix_(rows, rows)] += here @ paper.T
        ink[np.ix_(rows, rows)] += here.sum(axis=1, keepdims=True)
    unlike = np.where(ink > 0, bare / np.maximum(ink, 1), 1)
    alike = np.maximum(unlike, unlike.T) < SAME_SHAPE
    kept = np.zeros(len(points), bool)
    for row in range(len(points)):
        kept[row] = not (alike[row] & kept).any()
    return [point for point, keep in zip(points, kept, strict=True) if keep]


def _cache_file(fonts: Mapping[str, Path], cache_dir: str | os.PathLike[str] | None) -> Path:
    """Where the images of exactly these font files are kept."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home, "jaxmeta") if cache_dir is None else Path(cache_dir)
    facts = [unicodedata.unidata_version, *(f"{p.name} {p.stat().st_size}" for p in fonts.values())]
    return folder / f"glyphs-v{_FORMAT}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:12]}.npz"


def _cached(file: Path, render: Callable[[], _Atlas]) -> _Atlas:
    """What `file` holds; if it is missing or damaged, what `render` gives, then kept in `file`."""
    try:
        # Opened here, for np.load leaves a file open that is not an archive.
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            points, images = stored["code_points"], stored["images"]
        if images.shape == (len(points), INSTANCES, SIDE, SIDE):
            return points, images
    except Exception:  # damage shows as errors of zipfile, zlib, tokenize, and of NumPy itself
        pass  # drawn anew below
    points, images = render()
    content = io.BytesIO()
    np.savez(content, code_points=points, images=images)
    # A folder that cannot be written, or a full disk, costs the next process the drawing again.
    with contextlib.suppress(OSError):
        write_atomically(file, content.getvalue())
    return points, images
