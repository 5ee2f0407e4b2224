"""The spliced layer: a gzip stream written around DEFLATE data that a wheel already holds, with no compressor.

RFC 1952 lets a gzip file be any number of members one after the other. A layer written here is::

    member(header of the first entry) member(its content) member(padding + next header) member(its content) …

so that each file's content is a member of its own: a wheel's raw DEFLATE bytes fit in as they are, and a table of
contents could point at them (lazy pulling). Headers are packed by :func:`fixed`, which knows only literals, runs
and RFC 1951's fixed Huffman codes: the same input gives the same bytes for ever, whatever zlib is installed.
What is no wheel's is deflated by :func:`deflated`; the keys of such layers name the :func:`compressor`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from mealkit._value import dataclass
from mealkit.errors import BuildError

from . import entry
from .ahead import flow
from .inflate import Broken, Buffer, crc32, inflate

# ID1 ID2 CM=deflate FLG=0 MTIME=0 XFL=0 OS=255 (unknown): Python's gzip module writes another OS on 3.13.
GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

LEVEL = 6
_VERSION = "0.9.0"  # of the package deflate, which brings its own libdeflate; see docs/decisions
PART = 1 << 20
"""Bytes of a large content that are deflated at a time."""

_FLUSH = 1 << 20
_HEADERS = 16 << 10  # packing many headers in one go takes time that grows with their square
_STORED_LIMIT = 65535
_RUN = re.compile(rb"(.)\1{3,}", re.DOTALL)


def _literal(byte: int) -> str:
    """The fixed code of a literal, as the bits in the order they are sent (RFC 1951, 3.2.6)."""
    return f"{0x30 + byte:08b}" if byte < 144 else f"{0x190 + byte - 144:09b}"


_LITERALS = tuple(_literal(byte) for byte in range(256))
_END_OF_BLOCK = "0000000"
_ASCII = bytes(int(_literal(byte)[::-1], 2) if byte < 128 else 0 for byte in range(256))
# (code, shortest length, extra bits) of every length code (RFC 1951, 3.2.5); 285 stands for 258 alone.
_LENGTHS = (
    *((257 + step, 3 + step, 0) for step in range(8)),
    *(
        (265 + 4 * (extra - 1) + step, 3 + (8 << (extra - 1)) + (step << extra), extra)
        for extra in range(1, 6)
        for step in range(4)
    ),
)


@functools.cache
def _repeat(length: int) -> str:
    """The bits of "copy ``length`` bytes from one byte back"; length is 3 to 258."""
    if length == 258:
        code, base, extra = 285, 258, 0
    else:
        code, base, extra = next(row for row in reversed(_LENGTHS) if row[1] <= length)
    symbol = f"{code - 256:07b}" if code < 280 else f"{0xC0 + code - 280:08b}"
    # Huffman codes go out from their most significant bit, extra bits from their least significant one.
    return symbol + (f"{length - base:0{extra}b}"[::-1] if extra else "") + "00000"


@functools.lru_cache(maxsize=4096)
def _run(byte: int, count: int) -> tuple[int, int]:
    """A byte ``count`` times over, as ``(bits, how many)``."""
    whole, rest = divmod(count - 1, 258)
    tail = _repeat(rest) if rest >= 3 else _LITERALS[byte] * rest
    return _number(_LITERALS[byte] + _repeat(258) * whole + tail)


def _number(bits: str) -> tuple[int, int]:
    """Bits in the order they are sent as a number, whose least significant bit goes first."""
    return int(bits[::-1] or "0", 2), len(bits)


def fixed(data: bytes) -> bytes:
    """``data`` as raw DEFLATE: one block of fixed Huffman codes in which only runs of a byte are shortened."""
    bits, length = 0b011, 3  # BFINAL=1, BTYPE=01, from the least significant bit on
    at = 0
    for match in _RUN.finditer(data):
        start, stop = match.span()
        more, width = _piece(data[at:start], data[start], stop - start)
        bits |= more << length
        length += width
        at = stop
    more, width = _plain(data[at:])
    bits |= more << length
    length += width + len(_END_OF_BLOCK)  # which is all zeros
    return bits.to_bytes((length + 7) // 8, "little")


@functools.lru_cache(maxsize=4096)
def _piece(literal: bytes, byte: int, count: int) -> tuple[int, int]:
    """Literals and the run after them; but for their names and sizes headers are made of the same few of these."""
    (one, first), (other, second) = _plain(literal), _run(byte, count)
    return one | other << first, first + second


def _plain(data: bytes) -> tuple[int, int]:
    """Literals as ``(bits, how many)``; the codes of bytes under 144 are a byte long and go through one table."""
    if not data or data.isascii():
        return int.from_bytes(data.translate(_ASCII), "little"), 8 * len(data)
    return _number("".join(map(_LITERALS.__getitem__, data)))


def stored(data: Buffer, *, final: bool = True) -> tuple[Buffer, ...]:
    """``data`` as raw DEFLATE: stored blocks, as pieces around slices of ``data``; ``final``: nothing follows."""
    view = memoryview(data)
    pieces: list[Buffer] = []
    for at in range(0, max(len(view), 1), _STORED_LIMIT):
        piece = view[at : at + _STORED_LIMIT]
        size = len(piece)
        last = final and at + size == len(view)
        pieces += (bytes((last, size & 255, size >> 8, ~size & 255, ~size >> 8 & 255)), piece)
    return tuple(pieces)


@dataclass(frozen=True, slots=True)
class Body:
    """A file's content twice: plain, and as one complete raw DEFLATE stream in pieces."""

    plain: Buffer
    deflate: tuple[Buffer, ...]
    crc: int


def stored_body(data: Buffer) -> Body:
    """Content that no compressor touches; short runs aside, the layer grows by what it weighs."""
    small = len(data) <= 4096
    runs = fixed(bytes(data)) if small else b""
    return Body(data, (runs,) if small and len(runs) < len(data) + 5 else stored(data), crc32(data))


def deflated(data: Buffer) -> Buffer:
    """``data`` as raw DEFLATE by libdeflate: the same bytes on every machine and Python.

    Raises:
        BuildError: the package ``deflate`` is here in another version, which may give other bytes.
    """
    return _encoder()(data, LEVEL)


@functools.cache
def _encoder() -> Callable[[Buffer, int], Buffer]:
    import deflate

    if deflate.__version__ != _VERSION:
        raise BuildError(
            f"the package deflate is here as {deflate.__version__}, and digests are promised for {_VERSION}",
            where=deflate.__file__,
            hint=f"pip install deflate=={_VERSION}",
        )
    return deflate.deflate_compress


def compressed_body(data: Buffer) -> Body:
    """Content deflated by :func:`deflated`; the diff ID does not depend on that, the layer's digest does."""
    return Body(data, (deflated(data),), crc32(data))


def compressor() -> str:
    """The name of what deflates, which the keys of layers made by it carry: its version decides over their bytes."""
    return f"libdeflate{LEVEL}.{_VERSION}"


def spliced_body(raw: Buffer, size: int, crc: int) -> Body:
    """Content whose raw DEFLATE stream exists already; it is inflated once, to be checked and hashed.

    Raises:
        Broken: the stream is damaged, too long, too short, or is followed by other bytes.
    """
    return Body(inflate(raw, size, crc), (raw,), crc)


@dataclass(frozen=True)
class Stream:
    """A large file's content that is never held whole.

    Attributes:
        size: Its length.
        pieces: ``(plain, deflate)`` pieces; joined, the first are the content and the second one raw DEFLATE stream.
        crc: The content's CRC-32, where it is known before.
        parts: Each piece is a whole raw DEFLATE stream, and becomes a member of its own.
    """

    size: int
    pieces: Iterator[tuple[Buffer, tuple[Buffer, ...]]]
    crc: int | None = None
    parts: bool = False


def stored_stream(size: int, blocks: Iterable[Buffer]) -> Stream:
    """:func:`stored` for blocks of any lengths, ``size`` bytes together.

    Raises:
        Broken: from the pieces: there are more or fewer bytes.
    """

    def pieces() -> Iterator[tuple[Buffer, tuple[Buffer, ...]]]:
        done = 0
        for data in _cut(blocks, 8 * _STORED_LIMIT):
            done += len(data)
            if done > size:
                break
            yield data, stored(data, final=done == size)
        if done != size:
            raise Broken(f"it should have {size} bytes, and has {'more' if done > size else done}")

    return Stream(size, pieces())


def compressed_stream(size: int, blocks: Iterable[Buffer]) -> Stream:
    """A content of any length deflated in parts of :data:`PART` bytes, however the blocks are cut.

    Raises:
        Broken: from the pieces: they are not ``size`` bytes.
    """

    def pieces() -> Iterator[tuple[Buffer, tuple[Buffer, ...]]]:
        done = 0
        for data in _cut(blocks, PART):
            done += len(data)
            yield data, (deflated(data),)
        if done != size:
            raise Broken(f"it should have {size} bytes, and has {done}")

    return Stream(size, pieces(), parts=True)


def _cut(blocks: Iterable[Buffer], length: int) -> Iterator[Buffer]:
    """The blocks cut anew: all of one length but the last."""
    rest = b""
    for block in blocks:
        view = memoryview(rest + block if rest else block)
        end = len(view) - len(view) % length
        for at in range(0, end, length):
            yield view[at : at + length]
        rest = bytes(view[end:])
    if rest:
        yield rest


class _Sink:
    """Hashes, and writes if there is a file, in pieces large enough to leave the interpreter lock."""

    def __init__(self, file: BinaryIO | None) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._waiting: list[Buffer] = []
        self._length = 0
        self.size = 0

    def write(self, data: Buffer) -> None:
        self._waiting.append(data)
        self._length += len(data)
        if self._length >= _FLUSH:
            self.flush()

    def flush(self) -> None:
        # A piece that is large by itself is not copied.
        joined: Iterable[Buffer] = (b"".join(self._waiting),) if len(self._waiting) > 3 else self._waiting
        for piece in joined:
            self._hash.update(piece)
            if self._file is not None:
                self._file.write(piece)
        self.size += self._length
        self._waiting, self._length = [], 0

    def digest(self) -> str:
        self.flush()
        return "sha256:" + self._hash.hexdigest()


@dataclass(frozen=True)
class Written:
    """What a finished layer file is: the digest and size of its bytes, and the digest of the tar within."""

    digest: str
    size: int
    diff_id: str


class LayerWriter:
    """Writes entries, in the order given, as a gzip stream of a tar; digest and diff ID are made on the way.

    Args:
        file: Where the compressed bytes go; only written to, never sought in.
        pack_headers: Makes DEFLATE data of the headers between contents.
    """

    def __init__(self, file: BinaryIO, pack_headers: Callable[[bytes], Buffer] = fixed) -> None:
        self._pack = pack_headers
        self._tar = _Sink(None)
        self._gzip = _Sink(file)
        self._headers = b""

    def add(self, header: bytes, body: Body | Stream | None = None) -> None:
        """An entry: its header(s) from :mod:`.entry` and, unless it is empty, a file's content."""
        if len(self._headers) > _HEADERS:
            self._flush_headers()
        self._headers += header
        size = content_size(body)
        if body is None or not size:
            return
        self._flush_headers()
        if isinstance(body, Stream):
            self._stream(body)
        else:
            self._member(body)
        self._headers = entry.padding(size)

    def finish(self) -> Written:
        """End the archive; nothing can be added after this."""
        self._headers += entry.END_OF_ARCHIVE
        self._flush_headers()
        diff_id, digest = self._tar.digest(), self._gzip.digest()
        return Written(digest, self._gzip.size, diff_id)

    def _flush_headers(self) -> None:
        data, self._headers = self._headers, b""
        self._member(Body(data, (self._pack(data),), crc32(data)))

    def _member(self, body: Body) -> None:
        self._tar.write(body.plain)
        self._gzip.write(GZIP_HEADER)
        for piece in body.deflate:
            self._gzip.write(piece)
        self._gzip.write(trailer(body.crc, len(body.plain)))

    def _stream(self, stream: Stream) -> None:
        """A member in pieces, or members: a thread makes them, this one hashes and writes them."""
        if stream.parts:
            with contextlib.closing(flow(stream.pieces)) as pieces:
                for plain, deflate in pieces:
                    self._member(Body(plain, deflate, crc32(plain)))
            return
        crc = 0
        self._gzip.write(GZIP_HEADER)
        with contextlib.closing(flow(stream.pieces)) as pieces:
            for plain, deflate in pieces:
                crc = crc32(plain, crc) if stream.crc is None else stream.crc
                self._tar.write(plain)
                for piece in deflate:
                    self._gzip.write(piece)
        self._gzip.write(trailer(crc, stream.size))


def trailer(crc: int, size: int) -> bytes:
    """CRC-32 and the length modulo 2**32, least significant byte first (RFC 1952, 2.3)."""
    return crc.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")


def content_size(body: Body | Stream | None) -> int:
    """Length of a content."""
    return 0 if body is None else body.size if isinstance(body, Stream) else len(body.plain)
