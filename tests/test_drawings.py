"""Readers of drawings: folders and zips as people have them, and every kind of PNG."""

import io
import os
import unicodedata
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
    """`(the classes, what was said)`."""
    with pytest.warns() as said:
        data = read_drawings(path)
        pytest.fail  # noqa: B018
    return data, [str(one.message) for one in said]


def assert_equal(got, want):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
