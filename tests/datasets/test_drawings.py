"""Folders and zips of drawings as people have them, with junk and odd names."""

import os
import unicodedata
import zipfile

import numpy as np
import pytest

pytest.importorskip("PIL")

from jaxmeta.datasets import _trees, read_drawings
from tests.drawing_files import (  # noqa: E402
    PLAIN,
    assert_equal,
    blank,
    read_and_listen,
    without_utf8_flags,
    write_folder,
    write_zip,
)

ALPHABETS = ("Greek", "Futhark é", "Ünder", "Ελληνικά", "letters.png")
CHARACTERS = ("alpha", "bêta", "γ", "Ǟ", "character01")
HIDDEN = (
    *("._1.png", ".DS_Store", ".hidden.png", ".#lock.PNG", "Thumbs.db", "DESKTOP.INI", "Icon\r"),
    *(".ipynb_checkpoints/1-checkpoint.png", "__MACOSX/Greek/alpha/._1.png", ".git/a/b/1.png"),
    *("__MACOSX/1.png", "@eaDir/1.png/thumb.png", "$RECYCLE.BIN/a/1.png", ".deep/.er/1.png"),
)


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
    files = {
        kind: write_zip(folder / f"{kind}.zip", pairs, zipfile.ZIP_STORED)
        for kind, pairs in variants.items()
    }
    without_utf8_flags(files["without flags"])
    return files


def _folders(name):
    parts = name.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]


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
    for kind, file in zips(tmp_path, members, np.random.default_rng(seed)).items():
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


def test_a_character_that_holds_characters_is_doubted(tmp_path):
    cover = {f"set/{name}": content for name, content in PLAIN.items()} | {
        "set/Greek/1.png": blank(9)
    }
    for path in (write_folder(tmp_path / "folder", cover), write_zip(tmp_path / "z.zip", cover)):
        data, said = read_and_listen(path)
        assert data.class_names == ("Greek/alpha", "Greek/beta", "set/Greek")
        assert said.endswith(
            ".png. Taken for a character, but holding characters too: 1 (set/Greek)."
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


def test_only_hidden_files_are_not_called_an_empty_folder(tmp_path):
    for path in (
        write_folder(tmp_path / "folder", {".a/b/1.png": b""}),
        write_zip(tmp_path / "z.zip", {".a/b/1.png": b""}),
    ):
        with pytest.raises(ValueError, match=r"png\. Left out: 1 hidden .* \(\.a\)\.$"):
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
    monkeypatch.setattr(_trees, "_MOST_BYTES", 1000)
    large = write_zip(tmp_path / "z.zip", PLAIN | {"Greek/alpha/2.png": bytes(1001)})
    with pytest.raises(ValueError, match=r"alpha/2\.png could not be read \(it unpacks to more"):
        read_drawings(large)
