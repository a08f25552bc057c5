"""Folders and zips of drawings with links in them: followed, but never around in a circle."""

import pytest

pytest.importorskip("PIL")

from jaxmeta.datasets import read_drawings
from tests.drawing_files import (  # noqa: E402
    PLAIN,
    assert_equal,
    blank,
    link_member,
    read_and_listen,
    write_folder,
    write_zip,
)

COPIES = PLAIN | {
    "Greek/alpha/3.png": blank(100),
    "Greek/alpha/4.png": blank(100),
    "Greek/gamma/1.png": blank(100),
    "Runes/alpha/1.png": blank(0),
    "Runes/alpha/3.png": blank(100),
    "Runes/alpha/4.png": blank(100),
    "Runes/beta/1.png": blank(100),
    "Runes/gamma/1.png": blank(100),
}
LINKS = {
    "Greek/alpha/3.png": "../beta/1.png",
    "Greek/alpha/4.png": "../gamma/1.png",
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
    data, said = read_and_listen(folder)
    assert data.class_names == ("Greek/alpha", "Greek/beta", "alpha/to", "beta/to")
    assert "characters too: 2 (Greek/alpha, Greek/beta)" in said
    packed_data, packed_said = read_and_listen(write_zip(tmp_path / "z.zip", packed))
    assert_equal(packed_data, data)
    assert packed_said == said


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
