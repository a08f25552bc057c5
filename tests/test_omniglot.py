"""Reading drawings from zips and folders, some of them damaged; and the download, without one."""

import hashlib
import http.client
import importlib
import io
import urllib.error
import zipfile

import numpy as np
import pytest

pytest.importorskip("PIL")

from PIL import Image  # noqa: E402

from jaxmeta.tasks import keep_groups, omniglot, read_drawings  # noqa: E402

# Not `from jaxmeta.tasks import omniglot`: there the name is the function's.
module = importlib.import_module("jaxmeta.tasks.omniglot")

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


def write_zip(file, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def write_folder(root):
    for path, content in MEMBERS.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root / ROOT


def assert_equal(got, want):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def archive(tmp_path):
    return write_zip(tmp_path / f"{ROOT}.zip", MEMBERS)


def test_classes_are_sorted_and_pictures_averaged_and_inverted(archive):
    data = read_drawings(archive)
    assert data.group_names == ("Aurek", "Tifinagh")
    assert data.class_names == CLASSES
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
    folder = write_folder(tmp_path / "unpacked")
    assert_equal(read_drawings(folder), read_drawings(archive))
    assert_equal(omniglot(tmp_path / "unpacked"), read_drawings(archive))
    assert_equal(omniglot(str(tmp_path)), read_drawings(str(archive)))


def test_what_is_no_drawing_is_passed_over(tmp_path, archive):
    litter = {
        "__MACOSX/images_background/Aurek/character10/._0000.png": b"not a picture",
        "images_background/Aurek/notes.txt": b"",
        "cover.png": b"not a picture",
        "images_background/cover.png": b"not a picture",
    }
    noisy = write_zip(tmp_path / "noisy.zip", litter | MEMBERS)
    assert_equal(read_drawings(noisy), read_drawings(archive))


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


def too_large(content):
    """A header of more pixels than Pillow opens, with its checksum made good."""
    start = content.index(b"IHDR")
    chunk = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + content[start + 12 : start + 17]
    return content[:start] + chunk + zipfile.crc32(chunk).to_bytes(4, "big") + content[start + 21 :]


SPOILT = {
    "empty": lambda content: b"",
    "text": lambda content: b"not a picture",
    "truncated": lambda content: content[: len(content) // 2],
    "broken chunk": lambda content: flip(content, content.index(b"IDAT") + 1),
    "too large": too_large,
}


@pytest.mark.parametrize("name", SPOILT)
def test_unreadable_picture_is_refused_with_its_name(tmp_path, name):
    content = SPOILT[name](png(np.random.default_rng(0).integers(0, 256, (40, 40)).astype("u1")))
    folder = write_folder(tmp_path)
    (folder / "Aurek/character10/0007.png").write_bytes(content)
    file = write_zip(tmp_path / "z.zip", {"r/Aurek/character10/0007.png": content})
    for path in (folder, file):
        with pytest.raises(
            ValueError, match=r"/character10/0007\.png is not a readable PNG .*; fetch"
        ):
            read_drawings(path)


def test_what_cannot_be_opened_in_a_folder_is_refused_with_its_name(tmp_path):
    folder = write_folder(tmp_path)
    (folder / "Aurek/character10/0009.png").symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"0009\.png could not be read .*; mend or remove it"):
        read_drawings(folder)


@pytest.fixture
def serve(monkeypatch):
    """`serve(content)`: what the network answers from now on, or raises."""
    asked = []

    def replace(content):
        def urlopen(url, timeout):
            asked.append(url)
            if isinstance(content, Exception):
                raise content
            return io.BytesIO(content)

        monkeypatch.setattr(module.urllib.request, "urlopen", urlopen)
        return asked

    return replace


def test_download_is_checked_written_and_not_repeated(archive, tmp_path, serve, monkeypatch):
    content, target = archive.read_bytes(), tmp_path / "new" / "folder"
    monkeypatch.setitem(module._MD5, "background", hashlib.md5(content).hexdigest())
    asked = serve(content)
    with pytest.raises(ValueError, match="There is no"):
        omniglot(target)
    assert not asked  # no download unless it is wanted
    assert_equal(omniglot(target, download=True), read_drawings(archive))
    assert [file.name for file in target.iterdir()] == ["images_background.zip"]
    assert (target / "images_background.zip").read_bytes() == content
    omniglot(target, download=True)
    assert len(asked) == 1 and asked[0].endswith("/images_background.zip")


def test_wrong_checksum_writes_nothing(archive, tmp_path, serve):
    serve(archive.read_bytes())
    (tmp_path / "target").mkdir()
    with pytest.raises(ValueError, match="wrong checksum, so nothing was written; try again"):
        omniglot(tmp_path / "target", download=True)
    assert list((tmp_path / "target").iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [urllib.error.URLError("no route"), TimeoutError("timed out"), http.client.IncompleteRead(b"")],
)
def test_network_error_says_what_else_to_do(tmp_path, serve, error):
    serve(error)
    with pytest.raises(ValueError, match=r"could not be fetched .*copy images_background\.zip"):
        omniglot(tmp_path, download=True)
    assert list(tmp_path.iterdir()) == []


def test_keep_groups_keeps_the_classes_of_some_groups(archive):
    data = read_drawings(archive)
    kept = keep_groups(data, [1, 1])
    assert_equal(kept[:2], (data.images[1:], data.counts[1:]))
    np.testing.assert_array_equal(kept.groups, [0, 0])
    assert kept.groups.dtype == np.int32
    assert kept.group_names == ("Tifinagh",) and kept.class_names == CLASSES[1:]
    assert_equal(keep_groups(data, (1, 0)), data)
    for groups in ([], [2], [-1, 0]):
        with pytest.raises(ValueError, match=r"keep_groups needs indices in 0\.\.1, got "):
            keep_groups(data, groups)
