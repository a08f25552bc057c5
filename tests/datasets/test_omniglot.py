"""Reading drawings from zips and folders, some of them damaged; and the download, without one."""

import hashlib
import importlib
import io
import os
import zipfile
from http.client import IncompleteRead
from unittest import mock
from urllib.error import URLError

import numpy as np
import pytest

pytest.importorskip("PIL")

from PIL import Image  # noqa: E402

from jaxmeta.datasets import keep_groups, omniglot, read_drawings
from tests.drawing_files import write_folder, write_zip  # noqa: E402

module = importlib.import_module("jaxmeta.datasets._omniglot")

COUNTS = {"Tifinagh/character02": 1, "Aurek/character10": 3, "Tifinagh/character01": 2}
CLASSES = ("Aurek/character10", "Tifinagh/character01", "Tifinagh/character02")
ROOT = "images_background"


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def drawings():
    """56 x 56 grey pictures by path, out of order."""
    rng = np.random.default_rng(0)
    return {
        f"{ROOT}/{name}/{number:04}.png": rng.integers(0, 256, (56, 56)).astype("u1")
        for name, count in COUNTS.items()
        for number in reversed(range(count))
    }


MEMBERS = {path: png(pixels) for path, pixels in drawings().items()}


def assert_equal(got, want):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def archive(tmp_path):
    return write_zip(tmp_path / f"{ROOT}.zip", MEMBERS)


def test_classes_are_sorted_and_pictures_averaged_and_inverted(archive):
    data = read_drawings(archive)
    assert data.group_names == ("Aurek", "Tifinagh") and data.class_names == CLASSES
    np.testing.assert_array_equal(data.counts, [COUNTS[name] for name in CLASSES])
    np.testing.assert_array_equal(data.groups, [0, 1, 1])
    assert data.images.shape == (3, 3, 28, 28) and data.images.dtype == np.uint8
    assert data.counts.dtype == data.groups.dtype == np.int32
    for row, name in enumerate(CLASSES):
        for number in range(COUNTS[name]):
            pixels = drawings()[f"{ROOT}/{name}/{number:04}.png"].astype(float)
            mean = pixels.reshape(28, 2, 28, 2).mean((1, 3))
            # Pillow rounds twice: after the rows, and after the columns.
            np.testing.assert_allclose(data.images[row, number], 255 - mean, atol=1)
        assert not data.images[row, COUNTS[name] :].any()


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
def test_black_ink_on_white_paper_becomes_255_on_0(tmp_path, mode):
    paper = np.full((105, 105), 255, np.uint8)  # Omniglot's size: no whole number of 28
    paper[:, :50] = 0
    stream = io.BytesIO()
    Image.fromarray(paper).convert(mode).save(stream, "PNG")
    data = read_drawings(write_zip(tmp_path / "z.zip", {"r/a/c/1.png": stream.getvalue()}))
    image = data.images[0, 0]
    assert np.all(image[:, :13] == 255) and np.all(image[:, 14:] == 0)
    assert np.all((image[:, 13] > 50) & (image[:, 13] < 120))  # a third of this column is ink


def test_folder_is_read_as_the_zip(archive, tmp_path):
    folder = write_folder(tmp_path / "unpacked", MEMBERS) / ROOT
    assert_equal(read_drawings(folder), read_drawings(archive))
    assert_equal(omniglot(tmp_path / "unpacked"), read_drawings(archive))
    assert_equal(omniglot(str(tmp_path)), read_drawings(str(archive)))


def test_what_is_no_drawing_is_passed_over(tmp_path, archive):
    litter = {
        "__MACOSX/images_background/Aurek/character10/._0000.png": b"not a picture",
        "images_background/Aurek/notes.txt": b"",
        "cover.png": b"not a picture",
        "images_background/cover.png": b"",
    }
    noisy = write_zip(tmp_path / "noisy.zip", litter | MEMBERS)
    with pytest.warns(UserWarning, match=r"1 not named .*notes\.txt\); 2 fewer .*cover\.png"):
        data = read_drawings(noisy)
    assert_equal(data, read_drawings(archive))


def test_missing_archive_says_where_to_get_it(tmp_path):
    with pytest.raises(ValueError, match=r"images_evaluation\.zip.*https://.*download=True"):
        omniglot(tmp_path, "evaluation")
    with pytest.raises(ValueError, match=r"\['background', 'evaluation'\], got 'test'"):
        omniglot(tmp_path, "test")
    with pytest.raises(ValueError, match="There is no file or folder .*gone.zip"):
        read_drawings(tmp_path / "gone.zip")


@pytest.mark.parametrize("members", [{}, {"c/1.png": b"x"}, {"r/a/c/1.jpg": b"x"}])
def test_another_layout_is_refused(tmp_path, members):
    message = r"holds no <alphabet>/<character>/<drawing>\.png"
    with pytest.raises(ValueError, match=message):
        read_drawings(write_zip(tmp_path / "z.zip", members))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        read_drawings(tmp_path / "empty")


def flip(content, offset):
    return content[:offset] + bytes([content[offset] ^ 0xFF]) + content[offset + 1 :]


# Offsets into a zip of one member: the local header comes first, the central directory last.
FLAGS, METHOD, DATA = 6, 8, 60
DAMAGE = {
    "empty": lambda content: b"",
    "text": lambda content: b"<html>404: not found</html>",
    "truncated": lambda content: content[: len(content) // 2],
    "encrypted": lambda content: set_everywhere(content, FLAGS, 1),
    "unknown compression": lambda content: set_everywhere(content, METHOD, 99),
    "broken stream": lambda content: flip(content, DATA),
    "wrong bytes": lambda content: flip(content, content.index(b"IHDR") + 8),
    "version": lambda content: flip(content, content.rindex(b"PK\x01\x02") + 6),
}


def set_everywhere(content, offset, value):
    """Sets a field of the local header and of its copy in the central directory."""
    central = content.rindex(b"PK\x01\x02") + 2  # there it lies two bytes further on
    changed = bytearray(content)
    changed[offset] = changed[central + offset] = value
    return bytes(changed)


@pytest.mark.parametrize("name", DAMAGE)
def test_unreadable_zip_is_refused_with_its_name(tmp_path, name):
    method = zipfile.ZIP_STORED if name == "wrong bytes" else zipfile.ZIP_DEFLATED
    file = write_zip(tmp_path / "z.zip", {"r/a/c/1.png": png(np.eye(40, dtype="u1"))}, method)
    read_drawings(file)
    file.write_bytes(DAMAGE[name](file.read_bytes()))
    with pytest.raises(ValueError, match=r"z\.zip is not a readable zip .*; delete it and fetch"):
        read_drawings(file)


SPOILT = {
    "empty": lambda content: b"",
    "text": lambda content: b"not a picture",
    "truncated": lambda content: content[: len(content) // 2],
    "broken chunk": lambda content: flip(content, content.index(b"IDAT") + 1),
    "more pixels than Pillow opens": lambda content: content,
}


@pytest.mark.parametrize("name", SPOILT)
def test_unreadable_picture_is_refused_with_its_name(tmp_path, name, monkeypatch):
    if name == "more pixels than Pillow opens":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    noise = np.random.default_rng(0).integers(0, 256, (40, 40)).astype("u1")
    members = {f"{ROOT}/a/c/0007.png": SPOILT[name](png(noise))}
    for path in (write_folder(tmp_path, members) / ROOT, write_zip(tmp_path / "z.zip", members)):
        with pytest.raises(ValueError, match=r"/a/c/0007\.png is not a readable PNG .*; fetch it"):
            read_drawings(path)


def test_what_cannot_be_opened_is_refused_with_its_name(tmp_path):
    folder = write_folder(tmp_path, MEMBERS) / ROOT
    (folder / "Aurek/character10/0009.png").symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"0009\.png could not be read .*; mend or remove it"):
        read_drawings(folder)


@pytest.fixture
def urlopen(monkeypatch):
    """The network: `side_effect` lists what it answers, or raises, call by call."""
    fake = mock.Mock()
    monkeypatch.setattr(module.urllib.request, "urlopen", fake)
    return fake


def test_download_is_checked_and_written_whole(archive, tmp_path, urlopen, monkeypatch):
    content, target = archive.read_bytes(), tmp_path / "new" / "folder"
    monkeypatch.setitem(module._MD5, "background", hashlib.md5(content).hexdigest())
    with pytest.raises(ValueError, match="There is no"):
        omniglot(target)
    urlopen.assert_not_called()  # no download unless it is wanted
    urlopen.side_effect = [io.BytesIO(content), io.BytesIO(content)]
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(os, "fsync", mock.Mock(side_effect=OSError("disk full")))
        omniglot(target, download=True)
    assert list(target.iterdir()) == []
    for _ in range(2):
        assert_equal(omniglot(target, download=True), read_drawings(archive))
    assert [file.name for file in target.iterdir()] == ["images_background.zip"]
    assert urlopen.call_count == 2 and urlopen.call_args.args[0].endswith("/images_background.zip")


def test_wrong_checksum_writes_nothing(tmp_path, urlopen):
    urlopen.side_effect = [io.BytesIO(b"another file")]
    with pytest.raises(ValueError, match="wrong checksum, so nothing was written; try again"):
        omniglot(tmp_path, download=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [URLError("no route"), TimeoutError(), IncompleteRead(b"")])
def test_network_error_says_what_else_to_do(tmp_path, urlopen, error):
    urlopen.side_effect = [error]
    with pytest.raises(ValueError, match=r"could not be fetched .*copy images_background\.zip"):
        omniglot(tmp_path, download=True)
    assert list(tmp_path.iterdir()) == []


def test_keep_groups_keeps_the_classes_of_some_groups(archive):
    data = read_drawings(archive)
    kept = keep_groups(data, [1, 1])
    assert_equal(kept[:2], (data.images[1:], data.counts[1:]))
    assert kept.groups.tolist() == [0, 0] and kept.groups.dtype == np.int32
    assert kept.group_names == ("Tifinagh",) and kept.class_names == CLASSES[1:]
    assert_equal(keep_groups(data, (1, 0)), data)
    for groups in ([], [2], [-1, 0]):
        with pytest.raises(ValueError, match=r"keep_groups needs indices in 0\.\.1, got "):
            keep_groups(data, groups)
