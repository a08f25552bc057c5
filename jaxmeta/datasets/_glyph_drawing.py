"""Drawing letters: a font's outline cropped, distorted by a seed, thickened or thinned, averaged.

Everything is done on a grid finer than the outcome, so that the average anti-aliases it.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jaxmeta.datasets._images import require_pillow

SIDE = 28
"""Side of the square images, in pixels."""

_FINER = 3  # the fine grid has this many pixels to one of the outcome, each way
_FINE = SIDE * _FINER
_BOX = 20 * _FINER  # the longer side of an undistorted letter on the fine grid


def draw_letters(path: Path, points: Iterable[int]) -> dict[int, Any]:
    """Draws code points, cropped to the ink; leaves out blanks and the missing-glyph box."""
    image_module = require_pillow()
    from PIL import ImageDraw, ImageFont

    # Basic layout: the shaping engine, present on some machines only, would change the drawing.
    font = ImageFont.truetype(str(path), 96, layout_engine=ImageFont.Layout.BASIC)

    def draw(char: str) -> Any:
        sheet = image_module.new("L", (320, 256))
        ImageDraw.Draw(sheet).text((64, 64), char, fill=255, font=font)
        return sheet.crop(sheet.getbbox() or (0, 0, 0, 0))

    missing = draw("\uffff").tobytes()
    drawings = {point: draw(chr(point)) for point in points}
    return {point: d for point, d in drawings.items() if d.tobytes() not in (b"", missing)}


def render_class(point: int, drawings: list[Any], num_images: int) -> np.ndarray:
    """The images of one class: its fonts in turn, each time distorted anew.

    Args:
      point: code point of the letter; it seeds the distortions.
      drawings: what `draw_letters` made of the letter, by font.
      num_images: images M.

    Returns:
      uint8 `[M, 28, 28]`, ink 255.
    """
    # One seed an image: it is the same whatever else is drawn, and in whatever order.
    rngs = [np.random.default_rng([point, instance]) for instance in range(num_images)]
    fine = [_distort(drawings[i % len(drawings)], rng) for i, rng in enumerate(rngs)]
    strokes = np.array([rng.integers(-1, 3) for rng in rngs])
    return _average(_change_stroke(np.stack(fine), strokes))


def render_upright(drawings: list[Any]) -> np.ndarray:
    """Where undistorted drawings have ink: `[N, 28, 28]` float32 of 0 and 1."""
    fine = []
    for drawing in drawings:
        size = np.array(drawing.size, float)
        # Half-way to a square, for the distortion stretches: proportions do not tell classes apart.
        forward = np.diag(_BOX / np.sqrt(size * size.max()))
        fine.append(_transform(drawing, forward, np.full(2, _FINE / 2)))
    return (_average(np.stack(fine)) > 100).astype(np.float32)


def dilate(images: np.ndarray) -> np.ndarray:
    """The maximum over each pixel of `[N, H, W]` and its four neighbours."""
    out = images.copy()
    np.maximum(out[:, 1:], images[:, :-1], out=out[:, 1:])
    np.maximum(out[:, :-1], images[:, 1:], out=out[:, :-1])
    np.maximum(out[:, :, 1:], images[:, :, :-1], out=out[:, :, 1:])
    np.maximum(out[:, :, :-1], images[:, :, 1:], out=out[:, :, :-1])
    return out


def _distort(drawing: Any, rng: np.random.Generator) -> np.ndarray:
    """Scales `drawing` to the box, then stretches, shears, turns and moves it: `[84, 84]`."""
    angle = np.deg2rad(rng.uniform(-12, 12))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[1.0, rng.uniform(-0.15, 0.15)], [0.0, 1.0]])
    size = np.array(drawing.size, float)
    forward = turn @ shear @ np.diag(rng.uniform(0.85, 1.15, size=2)) * (_BOX / size.max())
    reach = np.abs(forward) @ size / 2  # half the width and height that the outcome takes up
    limit = _FINE / 2 - 2  # the stroke may add 2
    shift = rng.uniform(-1, 1, size=2) * np.clip(limit - reach, 0, 2 * _FINER)
    fitting = forward * min(1.0, limit / reach.max())  # shrink rather than cut off
    return _transform(drawing, fitting, _FINE / 2 + shift)


def _transform(drawing: Any, forward: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Maps `drawing` by `forward [2, 2]` about its middle, which goes to `centre`: `[84, 84]`."""
    image_module = require_pillow()
    back = np.linalg.inv(forward)  # Pillow asks where each pixel of the outcome comes from
    start = np.array(drawing.size) / 2 - back @ centre
    rows = np.column_stack([back, start]).ravel().tolist()
    kind, blend = image_module.Transform.AFFINE, image_module.Resampling.BILINEAR
    return np.asarray(drawing.transform((_FINE, _FINE), kind, rows, blend))


def _change_stroke(images: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Thickens each of `images [N, H, W]` by `steps [N]` fine pixels all round, or thins it."""
    # Half-way to the eroded image, or hairlines would vanish.
    thin = images // 2 + (255 - dilate(255 - images)) // 2
    images = np.where((steps < 0)[:, None, None], thin, images)
    for step in range(1, steps.max() + 1):
        images = np.where((steps >= step)[:, None, None], dilate(images), images)
    return images


def _average(fine: np.ndarray) -> np.ndarray:
    """Averages `[N, 84, 84]` down to `[N, 28, 28]` uint8."""
    # Strided slices: many times faster than a mean over the short axes of blocks.
    offsets = [(row, column) for row in range(_FINER) for column in range(_FINER)]
    parts = [fine[:, row::_FINER, column::_FINER] for row, column in offsets]
    total = np.sum(parts, axis=0, dtype=np.uint16)
    return np.asarray(total // _FINER**2, np.uint8)
