"""The newest checkpoints of a run: a damaged one gives way to the one before it."""

import os

import msgpack
import pytest

from jaxmeta import checkpoint
from tests.checkpoints import CONFIG, assert_same, start


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "state.msgpack"


def save_three(path, **kwargs):
    for seed in range(3):
        checkpoint.save_newest(path, start(seed=seed), CONFIG | {"seed": seed}, **kwargs)


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_the_newest_are_kept_and_the_newest_of_them_comes_back(path, keep):
    save_three(path, keep=keep)
    there = checkpoint.newest_first(path)
    assert [checkpoint.read_config(file)["seed"] for file in there] == [2, 1, 0][:keep]
    assert len(list(path.parent.iterdir())) == len(there)
    tree, config = checkpoint.restore_newest(path, start())
    assert_same(tree, start(seed=2))
    assert config == CONFIG | {"seed": 2}


@pytest.mark.parametrize("damage", [cut, flip, lambda path: path.write_bytes(b"")])
def test_a_damaged_one_gives_way_to_the_one_before_it(path, damage):
    save_three(path)
    damage(path)
    with pytest.warns(UserWarning, match=r"state.msgpack .*damaged.* The one before it is used"):
        tree, config = checkpoint.restore_newest(path, start())
    assert_same(tree, start(seed=1))
    assert config["seed"] == 1
    # The next save keeps what was whole.
    checkpoint.save_newest(path, start(seed=7), CONFIG)
    assert_same(checkpoint.restore_newest(path, start())[0], start(seed=7))
    assert_same(checkpoint.restore(path.with_name(path.name + ".2"), start()), start(seed=1))


def test_no_readable_checkpoint_is_said_in_a_sentence(path):
    with pytest.raises(ValueError, match="no checkpoint at .*state.msgpack"):
        checkpoint.restore_newest(path, start())
    checkpoint.save_newest(path, start(), CONFIG)
    cut(path)
    with pytest.raises(checkpoint.Damaged, match="state.msgpack"):
        checkpoint.restore_newest(path, start())
    with pytest.raises(ValueError, match="keep must be 1 or more"):
        checkpoint.save_newest(path, start(), CONFIG, keep=0)


def test_another_learner_or_a_newer_format_is_no_damage(path):
    save_three(path)
    with pytest.raises(ValueError, match="another learner"):
        checkpoint.restore_newest(path, start(size=4))
    envelope = msgpack.unpackb(path.read_bytes())
    path.write_bytes(msgpack.packb(envelope | {"format": envelope["format"] + 1}))
    with pytest.raises(ValueError, match="upgrade jaxmeta"):
        checkpoint.restore_newest(path, start())


@pytest.mark.parametrize("killed_at", range(4))
def test_killed_between_any_two_renames_nothing_is_lost(path, monkeypatch, killed_at):
    save_three(path)
    renames = []

    def rename(source, target):
        renames.append(source)
        if len(renames) > killed_at:
            raise KeyboardInterrupt
        os.rename(source, target)

    monkeypatch.setattr(type(path), "replace", rename)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save_newest(path, start(seed=3), CONFIG | {"seed": 3})
    monkeypatch.undo()
    tree, config = checkpoint.restore_newest(path, start())
    assert config["seed"] == 2
    assert_same(tree, start(seed=2))


def test_what_a_killed_writer_left_aside_is_removed(path):
    checkpoint.save_newest(path, start(), CONFIG)
    (path.parent / f".{path.name}.new.123.456").write_bytes(b"half")
    (path.parent / ".another.new.123.456").write_bytes(b"not ours")
    checkpoint.save_newest(path, start(), CONFIG)
    names = {file.name for file in path.parent.iterdir()}
    assert names == {path.name, path.name + ".1", ".another.new.123.456"}
