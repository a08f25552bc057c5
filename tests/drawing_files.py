"""Writing pictures, folders and zips for tests that read them."""

import io
import stat
import struct
import warnings
import zipfile
import zlib

import numpy as np

from jaxmeta.datasets import read_drawings


def write_zip(file, members, compression=zipfile.ZIP_DEFLATED):
    """Members are content by name, or pairs of these, where a name may come twice."""
    with zipfile.ZipFile(file, "w", compression) as archive, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Duplicate name")
        for name, content in members.items() if isinstance(members, dict) else members:
            archive.writestr(name, content)
    return file


def write_folder(root, members):
    """A name that ends with / is an empty folder's."""
    root.mkdir(parents=True, exist_ok=True)
    for name, content in members.items():
        file = root / name
        (file if name.endswith("/") else file.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            file.write_bytes(content)
    return root


def without_utf8_flags(file):
    """The zip as tools write it that do not say that names are in UTF-8; members are stored."""
    content = bytearray(file.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 7), (b"PK\x01\x02", 9)):
        at = content.find(signature)
        while at >= 0:
            content[at + offset] &= ~8
            at = content.find(signature, at + 1)
    file.write_bytes(content)
    return file


def link_member(name, target):
    """A symbolic link for `write_zip`, as `zip --symlinks` and git write it."""
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info, target


def encode_png(samples, depth, colour, *, palette=b"", clear=b""):
    """A PNG of samples `[H, W, channels]` below `2**depth`, whatever Pillow can write."""
    bits = (samples[..., None] >> np.arange(depth)[::-1]) & 1
    rows = np.packbits(bits.reshape(len(samples), -1).astype(np.uint8), axis=1)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], depth, colour, 0, 0, 0)
    pixels = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())  # 0 = no filter, in each row
    stream = io.BytesIO()
    stream.write(b"\x89PNG\r\n\x1a\n")
    chunks = {b"IHDR": header, b"PLTE": palette, b"tRNS": clear, b"IDAT": pixels, b"IEND": b""}
    for name, data in chunks.items():
        if data or name == b"IEND":
            check = struct.pack(">I", zlib.crc32(name + data))
            stream.write(struct.pack(">I", len(data)) + name + data + check)
    return stream.getvalue()


def blank(level):
    """A PNG of one grey level."""
    return encode_png(np.full((3, 3, 1), level), 8, 0)


PLAIN = {"Greek/alpha/1.png": blank(0), "Greek/beta/1.png": blank(100)}


def read_and_listen(path):
    """`(the classes, what was said after the name of the path)`."""
    with warnings.catch_warnings(record=True, action="always") as said:
        data = read_drawings(path)
    return data, "".join(str(one.message).removeprefix(str(path)) for one in said)


def assert_equal(got, want):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
