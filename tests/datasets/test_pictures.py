"""Every kind of PNG is read as viewers show it, on white paper."""

import io

import numpy as np
import pytest

pytest.importorskip("PIL")

from PIL import Image  # noqa: E402

from jaxmeta.datasets import read_drawings
from tests.drawing_files import encode_png, write_folder  # noqa: E402


def read_one(tmp_path, content):
    return read_drawings(write_folder(tmp_path, {"a/b/1.png": content})).images[0, 0]


GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, COLOUR: 3, PALETTE: 1, GREY_ALPHA: 2, COLOUR_ALPHA: 4}
FORMATS = [
    *((GREY, depth, clear) for depth in (1, 2, 4, 8, 16) for clear in ("", "one")),
    *((COLOUR, depth, clear) for depth in (8, 16) for clear in ("", "one")),
    *((PALETTE, depth, clear) for depth in (1, 2, 4, 8) for clear in ("", "one", "half")),
    *((colour, depth, "") for colour in (GREY_ALPHA, COLOUR_ALPHA) for depth in (8, 16)),
]


@pytest.mark.parametrize(("colour", "depth", "clear"), FORMATS)
def test_every_format_of_png_lies_on_white_paper(tmp_path, colour, depth, clear):
    rng = np.random.default_rng(depth)
    samples = rng.integers(0, 2**depth, (28, 28, CHANNELS[colour]))
    levels, alpha, palette, chunk = samples / (2**depth - 1), np.ones((28, 28, 1)), b"", b""
    if colour in (GREY_ALPHA, COLOUR_ALPHA):
        levels, alpha = levels[..., :-1], levels[..., -1:]
    if colour == PALETTE:
        entries = rng.integers(0, 256, (2**depth, 3))
        levels, palette = entries[samples[..., 0]] / 255, entries.astype("u1").tobytes()
        if clear:
            opacity = np.full(2**depth, 255) if clear == "one" else rng.integers(0, 256, 2**depth)
            opacity[samples[0, 0, 0]] = 0
            alpha, chunk = opacity[samples] / 255, opacity.astype("u1").tobytes()
    elif clear:
        alpha = np.any(samples != samples[0, 0], axis=-1, keepdims=True).astype(float)
        chunk = samples[0, 0].astype(">u2").tobytes()
    grey = levels @ [0.299, 0.587, 0.114] if levels.shape[-1] == 3 else levels[..., 0]
    want = 255 * alpha[..., 0] * (1 - grey)
    content = encode_png(samples, depth, colour, palette=palette, clear=chunk)
    np.testing.assert_allclose(read_one(tmp_path, content), want, atol=2 if depth == 16 else 1)


def saved(image, form):
    stream = io.BytesIO()
    image.save(stream, form)
    return stream.getvalue()


def test_other_forms_under_the_name_of_png_are_read_as_shown(tmp_path):
    square = np.full((28, 28), 255, np.uint8)
    square[10:18, 10:18] = 0
    paper = Image.fromarray(square)
    for number, (mode, form) in enumerate((("CMYK", "TIFF"), ("P", "GIF"), ("L", "BMP"))):
        got = read_one(tmp_path / str(number), saved(paper.convert(mode), form))
        np.testing.assert_array_equal(got, 255 - square)
    frames = io.BytesIO()
    paper.save(frames, "PNG", save_all=True, append_images=[Image.new("L", (28, 28))])
    np.testing.assert_array_equal(read_one(tmp_path / "frames", frames.getvalue()), 255 - square)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_without_a_known_white_are_refused(tmp_path, dtype):
    content = saved(Image.fromarray(np.ones((28, 28), dtype)), "TIFF")
    with pytest.raises(ValueError, match=r"1\.png is not a readable PNG \(.*32 bits"):
        read_one(tmp_path, content)
