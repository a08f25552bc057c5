"""Writing files so that nobody ever reads half of one."""

import glob
import os
import threading
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file at `path` by `content` in one rename, after it has reached the disk.

    Raises:
      OSError: if that cannot be done (a full disk, a read-only folder); the old file is whole.
    """
    aside = path.with_name(f"{_prefix_aside(path)}{os.getpid()}.{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{path} cannot be written ({error.strerror or error}), and is as it was before. Mend "
            "that, or name another folder",
        ) from error


def remove_left_aside(path: Path) -> None:
    """Remove what writers of `path` that were killed have left; for a path with one writer."""
    for aside in path.parent.glob(f"{glob.escape(_prefix_aside(path))}*"):
        aside.unlink(missing_ok=True)


def _prefix_aside(path: Path) -> str:
    return f".{path.name}."
