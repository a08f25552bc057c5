"""Readers of drawings: folders and zips as people have them, and every kind of PNG."""

import io
import os
import unicodedata
import warnings
import zipfile

import numpy as np
import pytest

pytest.importorskip("PIL")

from drawing_files import (  # noqa: E402
    blank,
    encode_png,
    link_member,
    without_utf8_flags,
    write_folder,
    write_zip,
)
from PIL import Image  # noqa: E402

from jaxmeta.tasks import read_drawings, trees  # noqa: E402

ALPHABETS = ("Greek", "Futhark é", "Ünder", "Ελληνικά", "letters.png")
CHARACTERS = ("alpha", "bêta", "γ", "Ǟ", "character01")
HIDDEN = (
    *("._1.png", ".DS_Store", ".hidden.png", ".#lock.PNG", "Thumbs.db", "DESKTOP.INI", "Icon\r"),
    *(".ipynb_checkpoints/1-checkpoint.png", "__MACOSX/Greek/alpha/._1.png", ".git/a/b/1.png"),
    *("__MACOSX/1.png", "@eaDir/1.png/thumb.png", "$RECYCLE.BIN/a/1.png", ".deep/.er/1.png"),
)
PLAIN = {"Greek/alpha/1.png": blank(0), "Greek/beta/1.png": blank(100)}


def in_form_c(name):
    return unicodedata.normalize("NFC", name)


def make_tree(seed):
    """`(members, levels by class, in order; counts of what is left out)`, with junk in between."""
    rng = np.random.default_rng(seed)
    pick = lambda names: names[rng.integers(len(names))]  # noqa: E731
    members, drawn, hidden = {}, {}, set()
    for number in range(30):
        folder = unicodedata.normalize(
            pick(("NFC", "NFD")), f"{pick(('', 'set/', 'a/b c/'))}{pick(ALPHABETS)}/"
        ) + unicodedata.normalize(pick(("NFC", "NFD")), pick(CHARACTERS))
        name = f"{folder}/{number:02}{pick(('.png', '.PNG', '.Png'))}"
        members[name] = blank(number)
        drawn[tuple(in_form_c(name).split("/"))] = number
        junk = pick(HIDDEN)
        around = folder.split("/")[: rng.integers(len(folder.split("/")) + 1)]
        members["/".join([*around, junk])] = pick((b"junk", blank(200)))
        hidden.add("/".join([*around, junk.split("/")[0]]))
    files = {f"{pick(('', 'set/', 'Greek/alpha/'))}{n}.txt": b"" for n in range(pick((0, 3)))}
    shallow = {f"{pick(('', 'Greek/'))}{n}.PNG": b"junk" for n in range(pick((0, 2)))}
    empty = {f"Greek/{n}/": b"" for n in range(pick((0, 2)))}
    classes = {}
    for parts in sorted(drawn):
        classes.setdefault("/".join(parts[-3:-1]), []).append(drawn[parts])
    members |= files | shallow | empty
    return members, classes, (len(files), len(shallow), len(empty), len(hidden))


def zips(folder, members, rng):
    """One tree as several tools pack it."""
    names = list(members)
    rng.shuffle(names)
    stored = [(name, members[name]) for name in names]
    inner = sorted({f"{part}/" for name in names for part in _folders(name)})
    variants = {
        "shuffled": stored,
        "with folders": [(name, b"") for name in inner] + stored,
        "from a point": [(f"./{name}", content) for name, content in stored],
        "from above": [(f"/../{name}", content) for name, content in stored],
        "from Windows": [(name.replace("/", "\\"), content) for name, content in stored],
        "appended to": [(name, b"old") for name in names if name[-1] != "/"] + stored,
        "without flags": stored,
    }
    for kind, pairs in variants.items():
        yield kind, write_zip(folder / f"{kind}.zip", pairs, zipfile.ZIP_STORED)
    without_utf8_flags(folder / "without flags.zip")


def _folders(name):
    parts = name.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]


def read_and_listen(path):
    """`(the classes, what was said after the name of the path)`."""
    with warnings.catch_warnings(record=True, action="always") as said:
        data = read_drawings(path)
    return data, "".join(str(one.message).removeprefix(str(path)) for one in said)


def assert_equal(got, want):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("seed", range(12))
def test_a_tree_is_the_same_as_folder_and_as_any_zip(tmp_path, seed):
    members, classes, counts = make_tree(seed)
    data, said = read_and_listen(write_folder(tmp_path / "tree", members))
    assert data.class_names == tuple(sorted(classes, key=lambda name: tuple(name.split("/"))))
    assert data.group_names == tuple(sorted({name.split("/")[0] for name in classes}))
    for row, count, name in zip(data.images, data.counts, data.class_names, strict=True):
        want = np.array(classes[name], np.uint8)[:, None, None]
        assert count == len(want)
        np.testing.assert_array_equal(row[:count], np.broadcast_to(255 - want, (count, 28, 28)))
    reasons = ("not named *.png", "fewer than two folders deep", "an empty folder", "hidden or put")
    for count, reason in zip(counts, reasons, strict=True):
        assert (f" {count} {reason}" in said) == (count > 0 and any(counts[:3])), said
    for kind, file in zips(tmp_path, members, np.random.default_rng(seed)):
        packed, said_of_zip = read_and_listen(file)
        assert_equal(packed, data)
        assert said_of_zip == said, kind


def test_hidden_files_and_companions_are_left_out_in_silence(tmp_path):
    junk = {f"{folder}{name}": b"junk" for name in HIDDEN for folder in ("", "Greek/alpha/")}
    want = read_drawings(write_folder(tmp_path / "plain", PLAIN))
    assert_equal(read_drawings(write_folder(tmp_path / "full", PLAIN | junk)), want)
    assert_equal(read_drawings(str(write_zip(tmp_path / "z.zip", PLAIN | junk))), want)


def test_what_is_left_out_is_counted_in_a_sentence(tmp_path):
    other = {f"notes{n}.txt": b"" for n in range(3)} | {"Greek/1.png": b"", "Greek/x/.y": b""}
    for path in (
        write_folder(tmp_path / "folder", PLAIN | other),
        write_zip(tmp_path / "z.zip", PLAIN | other),
    ):
        assert read_and_listen(path)[1] == (
            " holds drawings, <alphabet>/<character>/<drawing>.png. Left out: "
            "3 not named *.png (notes0.txt, notes1.txt, ...); "
            "1 fewer than two folders deep (Greek/1.png); 1 an empty folder (Greek/x); "
            "1 hidden or put there by an operating system (Greek/x/.y)."
        )


def test_nothing_left_to_read_says_what_was_left_out(tmp_path):
    members = {"Greek/alpha/1.jpg": b"", "1.PNG": b"", ".git/a/1.png": b"", "Greek/beta/": b""}
    message = (
        r" holds no <alphabet>/<character>/<drawing>\.png\. Left out: 1 not named \*\.png "
        r"\(Greek/alpha/1\.jpg\); 1 fewer than two folders deep \(1\.PNG\); "
        r"1 an empty folder \(Greek/beta\); 1 hidden .* \(\.git\)\."
    )
    for path in (
        write_folder(tmp_path / "folder", members),
        write_zip(tmp_path / "z.zip", members),
    ):
        with pytest.raises(ValueError, match=message):
            read_drawings(path)


def test_a_folder_of_characters_is_an_alphabet(tmp_path, monkeypatch):
    want = read_drawings(write_folder(tmp_path, PLAIN))
    assert_equal(read_drawings(tmp_path / "Greek"), want)
    monkeypatch.chdir(tmp_path / "Greek")
    assert_equal(read_drawings("."), want)
    with pytest.raises(ValueError, match="Left out: 2 fewer than two folders deep"):
        read_drawings(write_zip(tmp_path / "Greek.zip", {f"{n}/1.png": blank(0) for n in "ab"}))


def test_backslashes_part_names_in_a_folder_too(tmp_path):
    """Where a zip from Windows was unpacked by a tool that does not know of them."""
    odd = {name.replace("/", "\\"): content for name, content in PLAIN.items()}
    folder = write_folder(tmp_path / "odd", odd | {"\\": b"", "..\\..": b"", ".git\\a\\1.png": b""})
    data, said = read_and_listen(folder)
    assert_equal(data, read_drawings(write_folder(tmp_path / "plain", PLAIN)))
    assert "2 not named *.png" in said and "1 hidden" in said


COPIES = PLAIN | {
    "Greek/alpha/3.png": blank(100),
    "Greek/gamma/1.png": blank(100),
    "Runes/alpha/1.png": blank(0),
    "Runes/alpha/3.png": blank(100),
    "Runes/beta/1.png": blank(100),
    "Runes/gamma/1.png": blank(100),
}
LINKS = {
    "Greek/alpha/3.png": "../beta/1.png",
    "Greek/gamma": "beta",
    "Runes": "./Greek/../Greek",
    "Greek/alpha/loop": "../..",
    "Greek/alpha/.hidden.png": "nowhere",
}


def test_links_are_followed_but_never_around_in_a_circle(tmp_path):
    want = read_drawings(write_folder(tmp_path / "copies", COPIES))
    folder = write_folder(tmp_path / "linked", PLAIN)
    for name, target in LINKS.items():
        (folder / name).symlink_to(target)
    packed = [link_member(*link) for link in LINKS.items()]
    for path in (folder, write_zip(tmp_path / "z.zip", [*PLAIN.items(), *packed])):
        assert_equal(read_drawings(path), want)
    (tmp_path / "outside").symlink_to("linked")
    assert_equal(read_drawings(tmp_path / "outside"), want)


def test_two_folders_that_hold_links_to_each_other_end(tmp_path):
    links = {"Greek/alpha/to": "../beta", "Greek/beta/to": "../alpha"}
    folder = write_folder(tmp_path / "folder", PLAIN)
    for name, target in links.items():
        (folder / name).symlink_to(target)
    packed = [*PLAIN.items(), *(link_member(*link) for link in links.items())]
    data = read_drawings(folder)
    assert data.class_names == ("Greek/alpha", "Greek/beta", "alpha/to", "beta/to")
    assert_equal(read_drawings(write_zip(tmp_path / "z.zip", packed)), data)


@pytest.mark.parametrize("target", ["nowhere.png", "../../../1.png", "9.png"])
def test_a_link_to_nothing_is_refused_with_its_name(tmp_path, target):
    folder = write_folder(tmp_path / "folder", PLAIN)
    (folder / "Greek/alpha/9.png").symlink_to(target)
    packed = [*PLAIN.items(), link_member("Greek/alpha/9.png", target)]
    for path in (folder, write_zip(tmp_path / "z.zip", packed)):
        with pytest.raises(
            ValueError, match=r"Greek/alpha/9\.png (could not be read|is not a readable)"
        ):
            read_drawings(path)


@pytest.fixture
def locked(monkeypatch):
    """Names of what the user has no right to open; the superuser has every right."""
    names, real, real_zip = set(), os.scandir, zipfile.ZipFile

    def refusing(open_it):
        def opened(path, *args):
            if os.path.basename(path) in names:
                raise PermissionError(13, "Permission denied", str(path))
            return open_it(path, *args)

        return opened

    monkeypatch.setattr(os, "scandir", refusing(real))
    monkeypatch.setattr(zipfile, "ZipFile", refusing(real_zip))
    return names


def test_a_locked_folder_is_refused_unless_it_is_hidden(tmp_path, locked):
    folder = write_folder(tmp_path / "folder", PLAIN | {".Trashes/a/1.png": b""})
    locked.add(".Trashes")
    read_drawings(folder)
    locked.add("alpha")
    with pytest.raises(ValueError, match=r"folder/Greek/alpha could not be read .*denied"):
        read_drawings(folder)
    locked.add("z.zip")
    with pytest.raises(ValueError, match=r"z\.zip could not be read .*denied"):
        read_drawings(tmp_path / "z.zip")


def test_what_would_never_end_or_fit_is_refused(tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "folder", PLAIN)
    os.mkfifo(folder / "Greek/alpha/2.png")
    with pytest.raises(ValueError, match=r"alpha/2\.png could not be read \(it is a pipe"):
        read_drawings(folder)
    monkeypatch.setattr(trees, "_MOST_BYTES", 1000)
    large = write_zip(tmp_path / "z.zip", PLAIN | {"Greek/alpha/2.png": bytes(1001)})
    with pytest.raises(ValueError, match=r"alpha/2\.png could not be read \(it unpacks to more"):
        read_drawings(large)


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
