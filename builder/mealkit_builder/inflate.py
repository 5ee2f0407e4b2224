"""Inflating with suspicion: a raw DEFLATE stream in, pieces of its content out, checked against what was declared."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol, cast

Buffer = bytes | bytearray | memoryview

LARGE = 1 << 20
"""Contents of more bytes than this are never held whole: they pass through in pieces."""

_PACKED, _PLAIN = 128 << 10, 512 << 10  # bytes that go in, and may come out, at a time


class Broken(ValueError):
    """DEFLATE data that are not what the archive's directory says; the message says in what."""


class _Inflater(Protocol):
    """What zlib's and isal's objects have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: Buffer, /, max_length: int = 0) -> bytes: ...


@functools.cache
def inflater(wbits: int = -15) -> tuple[Callable[[], _Inflater], type[Exception]]:
    """What makes an inflater, and what that raises when data are damaged; ``wbits`` as zlib has it.

    Intel's library takes half of zlib's time; it is there on x86-64 and arm64.

    Where the two disagree about what is damaged, engines have the last word: no layer leaves without the CRC, size and
    sha256 that its wheel declares, and whoever pulls it checks all of it again.
    """
    try:
        from isal import isal_zlib
    except ImportError:
        return lambda: zlib.decompressobj(wbits), zlib.error
    return lambda: isal_zlib.decompressobj(wbits), cast("type[Exception]", isal_zlib.error)


@functools.cache
def _crc32() -> Callable[[Buffer, int], int]:
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.crc32
    return isal_zlib.crc32


def crc32(data: Buffer, value: int = 0) -> int:
    """The CRC-32 of ``data`` after what gave ``value``."""
    return _crc32()(data, value)


def inflate(raw: Buffer, size: int, crc: int) -> bytes:
    """The content of a complete raw DEFLATE stream, in one piece.

    Raises:
        Broken: the stream is damaged, too long, too short, or is followed by other bytes; the CRC-32 is wrong.
    """
    make, damaged = inflater()
    stream = make()
    try:
        # One byte of room beyond the declared size: a longer stream shows, and no bomb can fill the memory.
        plain = stream.decompress(raw, size + 1)
    except damaged as error:
        raise Broken(f"its compressed data are damaged ({error})") from error
    _check_end(stream, len(plain), size, rest=False)
    check_crc(crc32(plain), crc)
    return plain


def inflate_pieces(raw: memoryview, size: int, crc: int) -> Iterator[tuple[Buffer, bytes]]:
    """``(piece of the stream, piece of the content)`` one after the other; either may be empty.

    Raises:
        Broken: as :func:`inflate` does, after pieces that nobody may trust before the end.
    """
    make, damaged = inflater()
    stream = make()
    got, found, at = 0, 0, 0
    waiting: Buffer = b""
    try:
        while True:
            piece: Buffer = b""
            if not waiting and at < len(raw) and not stream.eof:
                waiting = piece = raw[at : at + _PACKED]
                at += len(piece)
            plain = stream.decompress(waiting, _PLAIN)
            waiting = stream.unconsumed_tail
            got += len(plain)
            found = crc32(plain, found)
            if got > size:
                break
            yield piece, plain
            # All went in and nothing came out: what may still wait within is nothing.
            if stream.eof or (not plain and not waiting and at == len(raw)):
                break
    except damaged as error:
        raise Broken(f"its compressed data are damaged ({error})") from error
    _check_end(stream, got, size, rest=at < len(raw))
    check_crc(found, crc)


def _check_end(stream: _Inflater, got: int, size: int, *, rest: bool) -> None:
    if got > size:
        raise Broken(f"it is longer than the {size} bytes that the wheel declares")
    if not stream.eof or got < size:
        raise Broken(f"it ends after {got} of the {size} bytes that the wheel declares")
    if rest or stream.unused_data:
        raise Broken("other bytes follow its compressed data")


def check_crc(found: int, crc: int) -> None:
    """Raise :class:`Broken` unless the two CRC-32 are one."""
    if found != crc:
        raise Broken("its CRC-32 is wrong")
