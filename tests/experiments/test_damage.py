"""Kinds of damage to what a run writes: each ends in a sentence, and what was saved is still there.

    python -m tests.experiments.test_damage    # prints them as a table

kill -9 is in test_killed.py, bad input in test_bad_input.py.
"""

import errno
import os
import threading
import warnings
from pathlib import Path

import jax.numpy as jnp
import msgpack
import numpy as np
import pytest

from jaxmeta import checkpoint, learners, networks
from tests.experiments.toy_run import (
    CONFIG,
    assert_says,
    print_table,
    resume,
    save,
    start,
    train,
)


def write(run, content):
    (run / "toy.state").write_bytes(content)
    return resume(run)


def newest(run):
    return (run / "toy.state").read_bytes()


def flipped(content):
    return content[:200] + bytes([content[200] ^ 1]) + content[201:]


def newer(content):
    return msgpack.packb(msgpack.unpackb(content) | {"format": 2})


def all_damaged(run):
    content = {path: path.read_bytes() for path in checkpoint.newest_first(run / "toy.state")}
    try:
        for path in content:
            path.write_bytes(b"")
        with warnings.catch_warnings(action="ignore"):
            resume(run)
    finally:
        for path, whole in content.items():
            path.write_bytes(whole)


def of_integers(run):
    checkpoint.save(run / "counts", {"w": jnp.ones(3, jnp.int32)}, CONFIG)
    checkpoint.restore(run / "counts", {"w": jnp.ones(3)})


def full_disk(run):
    """The file that is written aside is a device that is always full."""
    aside = f".toy.state.new.{os.getpid()}.{threading.get_ident()}"
    (run / aside).symlink_to("/dev/full")
    save(run)


def read_only(run):
    with pytest.MonkeyPatch.context() as patch:

        def refuse(path, mode="r", *args, **kwargs):
            if mode == "r":
                return path_open(path, mode, *args, **kwargs)
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        path_open = Path.open
        patch.setattr(Path, "open", refuse)
        save(run)


def full_metrics(run):
    (run / "metrics.jsonl").symlink_to("/dev/full")
    train(run, lambda state: (state._replace(step=state.step + 1), {"loss": np.zeros(1)}), start())


KINDS = {
    "newest checkpoint cut short": (lambda run: write(run, newest(run)[:-9]), "one before it"),
    "newest checkpoint with a flipped bit": (
        lambda run: write(run, flipped(newest(run))),
        "checksum differs.* one before it",
    ),
    "newest checkpoint empty": (lambda run: write(run, b""), "damaged.* one before it"),
    "newest checkpoint something else": (
        lambda run: write(run, b"\x89PNG"),
        "not a readable checkpoint.* one before it",
    ),
    "all checkpoints damaged": (all_damaged, "not a readable checkpoint"),
    "checkpoint of a newer format": (lambda run: write(run, newer(newest(run))), "upgrade jaxmeta"),
    "checkpoint of another learner": (
        lambda run: resume(run, learner=learners.prototypes(networks.mlp([4]), ways=2)),
        "another learner",
    ),
    "checkpoint of other settings": (lambda run: resume(run, {"steps": 9}), r"settings.*\(steps\)"),
    "checkpoint of integers": (of_integers, "another learner"),
    "no checkpoint": (
        lambda run: checkpoint.restore_newest(run / "absent", start()),
        "no checkpoint at",
    ),
    "full disk, checkpoint": (full_disk, "toy.state.* cannot be written .No space left on device"),
    "full disk, metrics": (
        full_metrics,
        "metrics.jsonl cannot be written .No space left on device",
    ),
    "read-only folder": (read_only, "toy.state.* cannot be written .Read-only file system"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_in_a_sentence_and_nothing_saved_is_lost(kind, tmp_path, monkeypatch):
    monkeypatch.delenv("JAXMETA_DATA", raising=False)
    damages_the_newest = "newest" in kind or "newer" in kind
    assert_says(KINDS[kind], tmp_path, newest=1 if damages_the_newest else 2)


if __name__ == "__main__":
    print_table(KINDS)
