"""Zip archives written byte by byte, so that any of their fields can lie."""

from __future__ import annotations

import base64
import hashlib
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

INFO = "demo-1.0.dist-info"


@dataclass
class Item:
    """An entry; what is None is told as it is."""

    name: str | bytes
    data: bytes = b"x = 1\n"
    method: int = 8
    flags: int = 0
    mode: int = 0o100644
    raw: bytes | None = None
    crc: int | None = None
    size: int | None = None
    packed: int | None = None
    extra: bytes = b""
    local_extra: bytes = b""
    descriptor: bytes = b""
    before: bytes = b""
    offset: int | None = None
    local: dict[str, int | bytes] = field(default_factory=dict)
    record: bool = True

    @property
    def raw_name(self) -> bytes:
        return self.name.encode() if isinstance(self.name, str) else self.name

    @property
    def content(self) -> bytes:
        if self.raw is not None:
            return self.raw
        return deflated(self.data) if self.method == 8 else self.data


def deflated(data: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush()


def zeros(size: int) -> tuple[bytes, int]:
    """``size`` zero bytes as raw DEFLATE, and their CRC, without ever holding them."""
    stream, pieces, crc, block = zlib.compressobj(9, zlib.DEFLATED, -15), [], 0, bytes(1 << 20)
    for _ in range(size >> 20):
        pieces.append(stream.compress(block))
        crc = zlib.crc32(block, crc)
    return b"".join([*pieces, stream.flush()]), crc


def hashed(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def archive(
    items: Sequence[Item],
    *,
    prefix: bytes = b"",
    before_end: bytes = b"",
    comment: bytes = b"",
    suffix: bytes = b"",
    count: int | None = None,
    directory_size: int | None = None,
    directory_start: int | None = None,
    disk: int = 0,
    shift: bool = True,
) -> bytes:
    """The archive; ``shift``: offsets count from the file's start, not from the archive's."""
    out, lines = bytearray(prefix), bytearray()
    base = 0 if shift else len(prefix)
    for item in items:
        out += item.before
        at = len(out) - base if item.offset is None else item.offset
        name, content = item.raw_name, item.content
        flags = item.flags | (0 if name.isascii() or item.flags & 0x10000 else 0x800)
        crc = zlib.crc32(item.data) if item.crc is None else item.crc
        size = len(item.data) if item.size is None else item.size
        packed = len(content) if item.packed is None else item.packed
        told = {"flags": flags, "method": item.method, "crc": crc, "packed": packed, "size": size, "name": name}
        told |= item.local
        local_name = told["name"]
        assert isinstance(local_name, bytes)
        out += struct.pack(
            "<4s5H3L2H", b"PK\x03\x04", 20, int(told["flags"]) & 0xFFFF, told["method"], 0, 0x21, told["crc"],
            told["packed"], told["size"], len(local_name), len(item.local_extra),
        ) + local_name + item.local_extra + content + item.descriptor  # fmt: skip
        lines += struct.pack(
            "<4s6H3L5H2L", b"PK\x01\x02", 0x314, 20, flags & 0xFFFF, item.method, 0, 0x21, crc, packed, size,
            len(name), len(item.extra), 0, 0, 0, item.mode << 16, at,
        ) + name + item.extra  # fmt: skip
    start = len(out) - base
    out += lines + before_end
    number = len(items) if count is None else count
    out += struct.pack(
        "<4s4H2LH", b"PK\x05\x06", disk, 0, number, number,
        len(lines) if directory_size is None else directory_size,
        start if directory_start is None else directory_start, len(comment),
    )  # fmt: skip
    return bytes(out + comment + suffix)


def items(*extra: Item, record: str | None = None, lines: str = "", metadata: bytes | None = None) -> list[Item]:
    """The entries of a wheel: a module, ``extra``, and metadata whose RECORD lists them all, and ``lines``."""
    listed = [
        Item("demo/__init__.py"),
        *extra,
        Item(f"{INFO}/METADATA", metadata or b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"),
        Item(f"{INFO}/WHEEL", b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
    ]
    if record is None:
        rows = [
            f'"{item.name}",{hashed(item.data)},{len(item.data)}\n'
            for item in listed
            if item.record and isinstance(item.name, str) and not item.name.endswith("/")
        ]
        record = "".join(rows) + lines + f"{INFO}/RECORD,,\n"
    return [*listed, Item(f"{INFO}/RECORD", record.encode())]


def wheel(*extra: Item, **changes: object) -> bytes:
    """A wheel with further entries; ``changes`` go to :func:`items` and :func:`archive`."""
    inner = {name: changes.pop(name) for name in ("record", "lines", "metadata") if name in changes}
    return archive(items(*extra, **inner), **changes)  # type: ignore[arg-type]
