"""Folders and zips as trees of files, so that one rule can sort out either."""

import os
import stat
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

_MOST_BYTES = 2**28
"""Larger members of a zip are refused before they are unpacked: no drawing is so large."""

_MOST_LINKS = 40
"""Links to links that are followed in a zip: as many as Linux follows in a folder."""

Parts = tuple[str, ...]


class Tree(NamedTuple):
    """Files in folders. A place is where a name leads to, links followed to their end.

    Attributes:
      name: the root folder's name; None for a zip, whose root has none.
      root: its place.
      children: place of a folder -> `(name, place)` of each entry; raises OSError.
      is_folder: place -> whether it is a folder.
      read: place of a file -> its content; raises OSError.
    """

    name: str | None
    root: Any
    children: Callable[[Any], list[tuple[str, Any]]]
    is_folder: Callable[[Any], bool]
    read: Callable[[Any], bytes]


@contextmanager
def opened(path: Path) -> Iterator[Tree]:
    """The tree of a folder or a zip, while it is open.

    Raises:
      ValueError: if there is neither, or the zip is damaged (here, or when it is read from).
    """
    if os.path.isdir(path):  # unlike Path.is_dir, False where the folder around it is locked
        yield _folder(path)
        return
    with _refusing_zip(path):
        archive = zipfile.ZipFile(path)
    with archive:
        yield _zip(path, archive)


def split(name: str) -> Parts:
    """The parts of a name, of which tools that unpack drop what leads outside.

    Zips made on Windows, and folders unpacked from these elsewhere, have backslashes.
    """
    parts = name.replace("\\", "/").split("/")
    return tuple(part for part in parts if part not in ("", ".", ".."))


def _folder(path: Path) -> Tree:
    def children(place: str) -> list[tuple[str, str]]:
        with os.scandir(place) as entries:
            return [
                (entry.name, os.path.realpath(entry.path) if entry.is_symlink() else entry.path)
                for entry in entries
            ]

    def read(place: str) -> bytes:
        if os.path.exists(place) and not os.path.isfile(place):
            raise OSError("it is a pipe or a device")  # which might never end
        return Path(place).read_bytes()

    name = os.path.basename(os.path.abspath(path))
    return Tree(name, os.path.realpath(path), children, os.path.isdir, read)


def _zip(path: Path, archive: zipfile.ZipFile) -> Tree:
    """Places are the parts of names, as the folder has them that it unpacks to."""
    folders, members = _index(archive)

    def read(place: Parts) -> bytes:
        if place not in members:
            raise FileNotFoundError("it links to what the zip does not hold")
        if members[place].file_size > _MOST_BYTES:
            raise OSError(f"it unpacks to more than {_MOST_BYTES} bytes")
        with _refusing_zip(path):
            return archive.read(members[place])

    def end(place: Parts) -> Parts:
        for _ in range(_MOST_LINKS):
            prefixes = (place[:depth] for depth in range(1, len(place) + 1))
            link = next((prefix for prefix in prefixes if is_link(prefix)), None)
            if link is None:
                break
            target = read(link).decode(errors="replace")
            place = _follow(link[:-1], target) + place[len(link) :]
        return place

    def is_link(parts: Parts) -> bool:
        return parts in members and stat.S_ISLNK(members[parts].external_attr >> 16)

    def children(place: Parts) -> list[tuple[str, Parts]]:
        return [(name, end((*place, name))) for name in folders[place]]

    return Tree(None, (), children, folders.__contains__, read)


def _index(
    archive: zipfile.ZipFile,
) -> tuple[dict[Parts, dict[str, None]], dict[Parts, zipfile.ZipInfo]]:
    """Names in each folder; and members, the last of each name, as when unpacked."""
    folders: dict[Parts, dict[str, None]] = defaultdict(dict, {(): {}})
    members = {}
    for info in archive.infolist():
        name = _decoded(info)
        parts = split(name)
        for depth, part in enumerate(parts):
            folders[parts[:depth]][part] = None
        if name.endswith(("/", "\\")):
            folders.setdefault(parts, {})  # it may be empty
        else:
            members[parts] = info
    return folders, members


def _decoded(info: zipfile.ZipInfo) -> str:
    """A member's name; macOS, for one, writes UTF-8 without the flag that says so."""
    if not info.flag_bits & 0x800:
        with suppress(UnicodeError):
            return info.filename.encode("cp437").decode()
    return info.filename


def _follow(folder: Parts, target: str) -> Parts:
    """Where a link that lies in a folder leads to."""
    for part in target.split("/"):
        if part == "..":
            folder = folder[:-1]
        elif part not in ("", "."):
            folder = (*folder, part)
    return folder


@contextmanager
def _refusing_zip(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise ValueError(f"There is no file or folder {path}.") from None
    except PermissionError as error:
        raise ValueError(f"{path} could not be read ({error}); mend that.") from error
    except Exception as error:  # zipfile, zlib, lzma and struct raise each their own
        raise ValueError(
            f"{path} is not a readable zip ({error}); delete it and fetch it again."
        ) from error
