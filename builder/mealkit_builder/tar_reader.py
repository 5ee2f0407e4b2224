"""A layer's tar read with suspicion: entry by entry, as every engine would see it, in bounded memory.

``tarfile`` parses the headers. What it forgives is refused here: a header that makes it end early, sizes that lead
backwards, extended headers without end, sparse files of any length, and names that lead out.
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from .gunzip import gunzip
from .layer import GZIP_LAYER, Layer

TAR_LAYER = "application/vnd.oci.image.layer.v1.tar"
OPAQUE = ".wh..wh..opq"
WHITEOUT = ".wh."

MOST_ENTRIES = 1_000_000
DEEPEST = 256
LONGEST_NAME = 4096
_LONGEST_PART = 255
_LONGEST_HEADER = 1 << 20  # what Go's archive/tar, which the engines use, reads of one extended header
_FREE = 128 << 20  # bytes that any layer may inflate to
_RATIO = 200  # beyond that; logs and zeros reach some 100, DEFLATE ends at 1032
_BLOCK = 1 << 20

_KINDS = frozenset(
    {
        tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE,
        tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
    }
)  # fmt: skip


DAMAGED = (
    tarfile.TarError, zlib.error, EOFError,
    # tarfile's own parsing lets these out; a chain of extended headers ends in a RecursionError.
    ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError,
)  # fmt: skip
"""What reading a tar raises where its bytes are damaged."""


class BadLayer(ValueError):
    """A layer that is damaged or would do harm; ``entry`` is the name in it, fit to be printed, or empty."""

    def __init__(self, why: str, entry: str = "") -> None:
        super().__init__(why)
        self.entry = printable(entry)


@dataclass(frozen=True, slots=True)
class Member:
    """An entry of a layer, its name found harmless.

    Attributes:
        info: As ``tarfile`` has it.
        parts: The parts of its name, without empty ones and dots; none for the root itself.
        removes: What a whiteout removes from the folder of its name: a name, or :data:`OPAQUE` for all; else empty.
    """

    info: tarfile.TarInfo
    parts: tuple[str, ...]
    removes: str
    _stream: _Forward

    def blocks(self) -> Iterator[bytes]:
        """The content of a regular file; to be read before the next entry is asked for.

        Raises:
            BadLayer: it is cut off, or damaged.
        """
        left = self.info.size
        with _telling(self.info.name):
            self._stream.seek(self.info.offset_data)
            while left:
                block = self._stream.read(min(left, _BLOCK))
                if not block:
                    raise BadLayer("the layer is cut off in a file", self.info.name)
                left -= len(block)
                yield block


def printable(name: str) -> str:
    """A name fit for a terminal and a log, whatever bytes it was made of, and not endless."""
    return name if name.isprintable() and len(name) <= 200 else ascii(name[:100])


def read_layer(file: BinaryIO, layer: Layer) -> Iterator[Member]:
    """The entries of a layer in their order; when the last was taken, size, digest and diff ID have been checked.

    Args:
        file: The layer's compressed bytes.
        layer: What they should be.

    Raises:
        BadLayer: they are not, the tar is damaged, or an entry would do harm.
    """
    packed = _Checked(file, layer.size)
    if layer.media_type not in (GZIP_LAYER, TAR_LAYER):
        raise BadLayer(f"it is compressed in a way that this builder cannot read ({layer.media_type})")
    # Not tarfile's own reader: that one stops at the first member of a gzip file.
    plain: Any = gunzip(packed) if layer.media_type == GZIP_LAYER else packed  # type: ignore[arg-type]
    stream = _Forward(plain, max(_FREE, _RATIO * layer.size))
    last = ""
    with _telling():
        stream.budget = _LONGEST_HEADER
        archive = tarfile.TarFile(fileobj=stream, encoding="utf-8", errors="surrogateescape")  # type: ignore[arg-type]
    for count in range(MOST_ENTRIES + 1):
        with _telling(last):
            stream.budget = _LONGEST_HEADER
            info = archive.next()
            stream.budget = None
            setattr(archive, "members", [])  # noqa: B010  # or the names of a million entries stay in memory
        if info is None:
            break
        if count == MOST_ENTRIES:
            raise BadLayer(f"it has more than {MOST_ENTRIES} entries")
        if archive.pax_headers.keys() - {"comment"}:
            raise BadLayer("it has a header for all entries, which engines pass over", info.name)
        last = info.name
        parts, removes = _check(info)
        yield Member(info, parts, removes, stream)
    # tarfile takes a header that it cannot read for the end.
    if any(stream.last) or len(stream.last) not in (0, tarfile.BLOCKSIZE):
        raise BadLayer("a header is damaged or cut off", last)
    with _telling():
        while block := stream.read(_BLOCK):
            if any(block):
                raise BadLayer("other bytes follow the archive's end")
    if stream.digest() != layer.diff_id:
        raise BadLayer("its content does not have the diff ID that the image's config tells")
    packed.check(layer.digest)


def _check(info: tarfile.TarInfo) -> tuple[tuple[str, ...], str]:
    """The parts of an entry's name, and what it removes if it is a whiteout."""
    name = info.name
    if info.type not in _KINDS or info.issparse():
        raise BadLayer("it is of a kind that a layer should not have (sparse, or unknown)", name)
    if info.size < 0:
        raise BadLayer("it has a negative size", name)
    for text in (name, info.linkname):
        if "\0" in text or len(text.encode(errors="surrogateescape")) >= LONGEST_NAME:
            raise BadLayer("its name, or what it links to, is too long or has a NUL in it", name)
    parts = _parts(name)
    if not parts:
        if not info.isdir():
            raise BadLayer("it has no name", name)
        return (), ""
    if ".." in parts or (info.islnk() and ".." in _parts(info.linkname)):
        raise BadLayer("it would be written outside of the image", name)
    if len(parts) > DEEPEST or any(len(part.encode(errors="surrogateescape")) > _LONGEST_PART for part in parts):
        raise BadLayer("its name is too deep, or a part of it too long", name)
    if (info.issym() and not info.linkname) or (info.islnk() and not _parts(info.linkname)):
        raise BadLayer("it is a link to nothing", name)
    if any(part.startswith(WHITEOUT) for part in parts[:-1]):
        raise BadLayer("it lies below a whiteout", name)
    if not parts[-1].startswith(WHITEOUT):
        return parts, ""
    removes = parts[-1].removeprefix(WHITEOUT)
    if parts[-1] == OPAQUE:
        return parts, OPAQUE
    if removes in ("", ".", "..") or removes.startswith(WHITEOUT):
        raise BadLayer("it is a whiteout that would remove more than its name says", name)
    return parts, removes


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.split("/") if part not in ("", "."))


class _telling:  # noqa: N801  # used as a keyword; a generator-based one would swallow GeneratorExit's traceback
    """Turns what ``tarfile`` and ``zlib`` raise over damaged bytes into :class:`BadLayer`."""

    def __init__(self, entry: str = "") -> None:
        self._entry = entry

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DAMAGED) and not isinstance(error, BadLayer):
            raise BadLayer(f"it is damaged: {error}", self._entry) from error


class Headers:
    """A plain tar that can be sought in, of which ``tarfile`` reads the headers, and of each no more than any has.

    Args:
        file: The tar.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.tell, self.seek = file.tell, file.seek
        self._left = _LONGEST_HEADER

    def refill(self) -> None:
        """The next entry may be read."""
        self._left = _LONGEST_HEADER

    def read(self, size: int) -> bytes:
        """As a file's; raises BadLayer instead of reading what is longer than any header."""
        self._left -= size
        if self._left < 0 or size < 0:
            raise BadLayer(f"a header in it is longer than {_LONGEST_HEADER} bytes")
        return self._file.read(size)


class _Forward:
    """The plain tar, only forwards, hashed on the way; as little of a file as ``tarfile`` needs.

    Attributes:
        budget: How many bytes may be read (not skipped) until it is set again; None: any number.
        last: What the last read gave.
    """

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file, self._limit = file, limit
        self._at = 0
        self._hash = hashlib.sha256()
        self.budget: int | None = None
        self.last = b""

    def tell(self) -> int:
        return self._at

    def read(self, size: int) -> bytes:
        if self.budget is not None:
            self.budget -= size
            if self.budget < 0 or size < 0:
                raise BadLayer(f"a header in it is longer than {_LONGEST_HEADER} bytes")
        pieces: list[bytes] = []
        while size > 0 and (piece := self._file.read(min(size, _BLOCK))):
            self._hash.update(piece)
            self._at += len(piece)
            size -= len(piece)
            pieces.append(piece)
            if self._at > self._limit:
                raise BadLayer(f"it inflates to more than {_RATIO} times its size: a bomb")
        self.last = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return self.last

    def seek(self, offset: int) -> int:
        if offset < self._at:
            raise BadLayer("a size in it leads backwards")
        budget, self.budget = self.budget, None
        while self._at < offset and self.read(min(offset - self._at, _BLOCK)):
            pass
        self.budget = budget
        return self._at

    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()


class _Checked:
    """The packed bytes, no more than the descriptor says, hashed on the way."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self._hash.update(block)
        self._left -= len(block)
        if self._left < 0:
            raise BadLayer("it is longer than its descriptor says")
        return block

    def check(self, digest: str) -> None:
        """Raise unless all was read that there should be, and is what ``digest`` names."""
        if self.read(1) or self._left:
            raise BadLayer("it is shorter than its descriptor says")
        if "sha256:" + self._hash.hexdigest() != digest:
            raise BadLayer("its bytes do not have its digest")
