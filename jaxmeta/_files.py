"""Writing files so that nobody ever reads half of one."""

import glob
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file at `path` by `content` in one rename, after it has reached the disk.

    Raises:
      OSError: if that cannot be done (a full disk, a read-only folder); the old file is whole.
    """
    aside = path.with_name(f"{_prefix_aside(path)}{os.getpid()}.{threading.get_ident()}")
    with _refusing_to_write(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Add a line to a log; raises OSError as `write_atomically` does."""
    with _refusing_to_write(path), path.open("a") as file:
        file.write(line + "\n")


def remove_left_aside(path: Path) -> None:
    """Remove what writers of `path` that were killed have left; for a path with one writer."""
    for aside in path.parent.glob(f"{glob.escape(_prefix_aside(path))}*"):
        aside.unlink(missing_ok=True)


def _prefix_aside(path: Path) -> str:
    return f".{path.name}."


@contextmanager
def _refusing_to_write(path: Path) -> Iterator[None]:
    """Say in a sentence what could not be written."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"{path} cannot be written ({error.strerror or error}); what it held before is whole. "
            "Mend that, or name another folder",
        ) from error
