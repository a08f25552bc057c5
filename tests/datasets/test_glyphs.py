"""Tests of the rendered letters; the drawing itself is done once and shared."""

import importlib
import os
import sys
import unicodedata

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("PIL")

from PIL import Image  # noqa: E402

from jaxmeta.datasets._glyph_drawing import render_class
from jaxmeta.datasets._glyphs import INSTANCES, SAME_SHAPE, SPLITS, glyphs

module = importlib.import_module("jaxmeta.datasets._glyphs")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def splits(cache):
    return {split: glyphs(split, cache_dir=cache) for split in SPLITS}


@pytest.fixture(scope="module")
def letters():
    return module._read_letters(module._find_fonts())


def code_points(classes):
    return [int(name.split()[0][2:], 16) for name in classes.class_names]


def small_atlas():
    images = np.arange(2 * INSTANCES * 28 * 28) % 251
    return np.array([65, 66], np.int32), images.reshape(2, INSTANCES, 28, 28).astype(np.uint8)


def assert_same(got, want):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_shapes_dtypes_and_counts(splits):
    for split, classes in splits.items():
        count = len(classes.class_names)
        assert classes.images.shape == (count, INSTANCES, 28, 28)
        assert classes.images.dtype == np.uint8
        assert classes.counts.dtype == classes.groups.dtype == np.int32
        np.testing.assert_array_equal(classes.counts, np.full(count, INSTANCES))
        assert classes.group_names == SPLITS[split]
        assert set(classes.groups.tolist()) == set(range(len(classes.group_names)))
    assert len(splits["train"].counts) >= 500
    assert len(splits["test"].counts) >= 120
    assert len(splits["validation"].counts) >= 80


def test_each_class_is_a_named_letter_of_its_group(splits):
    for classes in splits.values():
        for name, group in zip(classes.class_names, classes.groups, strict=True):
            code, _, rest = name.partition(" ")
            char = chr(int(code[2:], 16))
            assert unicodedata.name(char) == rest
            assert rest.startswith(classes.group_names[group] + " ")
            assert unicodedata.category(char).startswith("L")
            assert unicodedata.normalize("NFD", char) == char


def test_scripts_and_classes_are_disjoint_across_splits(splits):
    scripts = [script for group in SPLITS.values() for script in group]
    assert len(scripts) == len(set(scripts))
    points = [point for classes in splits.values() for point in code_points(classes)]
    assert len(points) == len(set(points))


def test_images_have_ink_on_paper_and_differ_within_a_class(splits):
    for classes in splits.values():
        ink = (classes.images > 127).sum((2, 3))
        assert ink.min() >= 10
        assert ink.max() < 0.6 * 28 * 28
        flat = classes.images.reshape(len(ink), INSTANCES, -1).astype(np.int32)
        for rows in flat:
            apart = np.abs(rows[:, None] - rows[None]).sum(-1) + np.eye(INSTANCES)
            assert apart.min() > 0


def test_rendering_is_a_function_of_code_point_and_instance(splits, letters):
    classes = splits["test"]
    points = code_points(classes)
    for row in (len(points) - 1, 0, len(points) // 2):  # alone, and in another order
        again = render_class(points[row], list(letters[points[row]].values()), INSTANCES)
        np.testing.assert_array_equal(again, classes.images[row])


def test_letters_are_held_by_enough_fonts_and_none_is_blank(letters):
    assert min(map(len, letters.values())) >= module.MIN_FONTS
    assert all(d.getbbox() is not None for held in letters.values() for d in held.values())


def upright_by_resizing(drawing):
    """The reference rendering by another route: resized, pasted; ink as bool `[28, 28]`."""
    long = max(drawing.size)
    size = [max(1, round(60 * (side / long) ** 0.5)) for side in drawing.size]
    sheet = Image.new("L", (84, 84))
    sheet.paste(drawing.resize(size, Image.Resampling.BILINEAR), [42 - side // 2 for side in size])
    return np.asarray(sheet, float).reshape(28, 3, 28, 3).mean((1, 3)) > 100


def test_no_test_class_looks_like_a_train_or_another_test_class(splits, letters):
    test, train = code_points(splits["test"]), code_points(splits["train"])
    everyone = test + train
    bare, ink = np.zeros((2, 2, len(test) + 1, len(everyone)))
    probes = [*test, 0x391]  # Greek Alpha: the oracle must see that it is Latin A
    for font in module._find_fonts():
        held = [point for point in {*everyone, 0x391} if font in letters[point]]
        drawn = {point: upright_by_resizing(letters[point][font]) for point in held}
        grown = {}
        for point, image in drawn.items():
            moved = [np.roll(image, step, axis) for step in (1, -1) for axis in (0, 1)]
            grown[point] = np.any([image, *moved], axis=0)
        columns = [column for column, point in enumerate(everyone) if point in drawn]
        images = np.array([drawn[everyone[c]] for c in columns])
        covers = np.array([grown[everyone[c]] for c in columns])
        for row, point in enumerate(probes):
            if point in drawn:
                bare[0, row, columns] += (drawn[point] & ~covers).sum((1, 2))
                bare[1, row, columns] += (images & ~grown[point]).sum((1, 2))
                ink[0, row, columns] += drawn[point].sum()
                ink[1, row, columns] += images.sum((1, 2))
    unlike = np.where(ink > 0, bare / np.maximum(ink, 1), 1).max(0)
    unlike[np.arange(len(test)), np.arange(len(test))] = 1
    assert unlike[:-1].min() > 0.9 * SAME_SHAPE  # resizing rounds where the module interpolates
    assert unlike[-1, everyone.index(0x41)] < SAME_SHAPE / 2
    assert 0x391 not in test


def test_cache_equals_fresh_and_leaves_no_other_file(cache, splits, monkeypatch):
    monkeypatch.setattr(module, "_render", lambda fonts: pytest.fail("drawn twice"))
    assert_same(glyphs("test", cache_dir=cache), splits["test"])
    assert [file.suffix for file in cache.iterdir()] == [".npz"]


def test_cache_follows_xdg(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert module._cache_file({}, None).parent == tmp_path / "jaxmeta"


@pytest.mark.parametrize("damage", [b"", b"not an archive", b"PK\x03\x04 cut", "truncate", "other"])
def test_damaged_cache_is_replaced(tmp_path, damage):
    file = tmp_path / "sub" / "glyphs.npz"
    assert_same(module._cached(file, small_atlas), small_atlas())
    whole = file.read_bytes()
    if damage == "other":
        with file.open("wb") as stream:
            np.savez(stream, code_points=np.arange(3), images=np.zeros((2, 2)))
    else:
        file.write_bytes(whole[: len(whole) // 2] if damage == "truncate" else damage)
    assert_same(module._cached(file, small_atlas), small_atlas())
    assert file.read_bytes()[:2] == b"PK"
    assert_same(module._cached(file, lambda: pytest.fail("not replaced")), small_atlas())
    assert list(file.parent.iterdir()) == [file]


def test_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    blocker = tmp_path / "file"
    blocker.write_text("a file where the folder should be")
    assert_same(module._cached(blocker / "glyphs.npz", small_atlas), small_atlas())

    def full(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    assert_same(module._cached(tmp_path / "new" / "glyphs.npz", small_atlas), small_atlas())
    assert list((tmp_path / "new").iterdir()) == []


def test_unknown_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'trian' is not one of 'test', 'train', 'validation'"):
        glyphs("trian", cache_dir=tmp_path)


@pytest.mark.parametrize("package", ["matplotlib", "PIL"])
def test_missing_package_says_what_to_install(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install 'jaxmeta\[plots\]'"):
        glyphs("test", cache_dir=tmp_path)
