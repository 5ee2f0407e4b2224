"""Reading a ``.deb`` with suspicion: an ar archive of two tar archives (deb(5)), checked and never unpacked to paths.

What is refused, because no package of Debian has it: absolute names, ``..``, names that are no text, entries of
other types than files, folders and links (so no devices, no pipes), a link that climbs above the root, a hard link to
what is not there, a name that is there twice, whiteouts, another order or number of members, data after the end, a
header that is damaged anywhere, and data that are far larger than the package says.
"""

from __future__ import annotations

import contextlib
import lzma
import os
import posixpath
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, NoReturn, Protocol

from mealkit.errors import BaseImageError, storage_error
from mealkit_builder.tar_reader import DAMAGED, Headers

from .control import Stanza, parse_stanzas

_MAGIC = b"!<arch>\n"
_HEADER = 60
_NUMBER = re.compile(rb"[0-9]+ *\Z")
_CONTROL_LIMIT = 16 << 20
_DATA_LIMIT = 16 << 30
_XZ_MEMORY = 160 << 20  # what a decoder of `xz -9` takes is 65 MiB
_CHUNK = 1 << 18

Kind = Literal["file", "folder", "link", "hardlink"]


@dataclass(frozen=True)
class DebEntry:
    """One entry of a package's files.

    Attributes:
        path: Absolute, as dpkg would install it.
        kind: What it is.
        mode: Its permissions, as the archive says, set-user-ID and all.
        size: A file's length.
        offset: Where its content begins in the unpacked archive.
        target: A symbolic link's target as given; a hard link's as an absolute path.
    """

    path: str
    kind: Kind
    mode: int
    size: int = 0
    offset: int = 0
    target: str = ""


@dataclass(frozen=True)
class Deb:
    """An open package; close it to give its temporary file back.

    Attributes:
        name: Its file's name, for errors.
        control: The fields that describe it.
        control_text: The same as written.
        md5sums: What it says of its files' content; empty when it says nothing.
        entries: Its files, in the order of the archive.
    """

    name: str
    control: Stanza
    control_text: str
    md5sums: str
    entries: tuple[DebEntry, ...]
    _data: BinaryIO

    def read(self, entry: DebEntry) -> bytes:
        """A file's content; may be called by several threads."""
        content = os.pread(self._data.fileno(), entry.size, entry.offset)
        if len(content) != entry.size:
            refuse(self.name, f"{entry.path} is cut short")
        return content

    def blocks(self, entry: DebEntry, length: int) -> Iterator[bytes]:
        """A large file's content in pieces."""
        for at in range(0, entry.size, length):
            yield os.pread(self._data.fileno(), min(length, entry.size - at), entry.offset + at)

    def close(self) -> None:
        """Give the temporary file back."""
        self._data.close()

    def __enter__(self) -> Deb:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def refuse(name: str, what: str, hint: str = "") -> NoReturn:
    """Raise the error of a package that cannot be used."""
    raise BaseImageError(
        f"{name} is no package that can be used: {what}",
        where=name,
        hint=hint or "leave the package out, or pin another version: mealkit lock --upgrade",
    )


def open_deb(path: Path, name: str, folder: Path) -> Deb:
    """Read a package's control data and the names of its files.

    Args:
        path: The ``.deb``.
        name: What errors call it.
        folder: Where a temporary file for the decompressed data may be made; it has no name.

    Raises:
        BaseImageError: the package is broken, or holds what it must not.
        StorageError: the disk is full or failing.
    """
    try:
        with path.open("rb") as file, contextlib.ExitStack() as stack:
            control_member, data_member = _members(file, name)
            control = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            _decompress(file, control_member, control, _CONTROL_LIMIT, name)
            text, md5sums = _read_control(control, name)
            fields = _control_fields(text, name)
            data = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            _decompress(file, data_member, data, _data_limit(fields), name)
            deb = Deb(name, fields, text, md5sums, tuple(_entries(data, name)), data)
            stack.pop_all()
            control.close()
            return deb
    except OSError as error:
        raise storage_error(error, "cannot read a package", path) from error


@dataclass(frozen=True)
class _Member:
    name: str
    offset: int
    size: int


def _members(file: BinaryIO, name: str) -> tuple[_Member, _Member]:
    """The members for control and data of an ar archive."""
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(len(_MAGIC)) != _MAGIC:
        refuse(name, "it is no ar archive")
    found: list[_Member] = []
    while file.tell() < length:
        header = file.read(_HEADER)
        if len(header) != _HEADER or header[58:] != b"`\n" or not _NUMBER.match(header[48:58]):
            refuse(name, "a header of its ar archive is damaged")
        member = _Member(header[:16].decode("ascii", "replace").rstrip(" ").removesuffix("/"), file.tell(),
                         int(header[48:58]))  # fmt: skip
        end = member.offset + member.size + member.size % 2
        # An odd member at the very end may lack its padding.
        if member.offset + member.size > length:
            refuse(name, f"its member {member.name} is cut short")
        found.append(member)
        if len(found) > 16:
            refuse(name, "it has too many members")
        file.seek(end)
    # deb(5): what begins with an underscore may stand between, and is passed over.
    known = [found[0], *(one for one in found[1:] if not one.name.startswith("_"))] if found else []
    if len(known) != 3 or known[0].name != "debian-binary" or known[0].size > 64:
        refuse(name, "it has not exactly the members debian-binary, control.tar and data.tar")
    file.seek(known[0].offset)
    if not file.read(known[0].size).startswith(b"2."):
        refuse(name, "it is of another version of the package format")
    for member, stem in zip(known[1:], ("control.tar", "data.tar"), strict=True):
        if member.name != stem and not member.name.startswith(stem + "."):
            refuse(name, f"it has {member.name} where {stem} belongs")
    return known[1], known[2]


class _Inflater(Protocol):
    def decompress(self, data: bytes, size: int) -> bytes: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...


class _Gzip:
    """zlib's decompressor with the manners of lzma's."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(16 + zlib.MAX_WBITS)

    def decompress(self, data: bytes, size: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, size)

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


def _decompress(file: BinaryIO, member: _Member, target: BinaryIO, limit: int, name: str) -> None:
    """Write the plain tar archive of a member to ``target``, at most ``limit`` bytes."""
    ending = member.name.rpartition(".tar")[2]
    file.seek(member.offset)
    left, written = member.size, 0
    if ending not in ("", ".gz", ".xz"):
        refuse(
            name,
            f"its {member.name} is compressed in a way that this builder cannot read",
            "packages compressed with gzip or xz work, as all of Debian's are",
        )
    inflater: _Inflater | None = None
    if ending == ".xz":
        inflater = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    elif ending == ".gz":
        inflater = _Gzip()
    try:
        while True:
            fed = file.read(min(_CHUNK, left)) if inflater is None or inflater.needs_input else b""
            left -= len(fed)
            plain = fed if inflater is None else inflater.decompress(fed, _CHUNK)
            written += len(plain)
            if written > limit:
                refuse(name, f"its {member.name} is far larger than the package says")
            target.write(plain)
            if inflater is None:
                if not left:
                    break
            elif inflater.eof:
                if inflater.unused_data or left:
                    refuse(name, f"other data follow in its {member.name}")
                break
            elif not plain and not left and not fed:
                refuse(name, f"its {member.name} is cut short")
    except (lzma.LZMAError, zlib.error) as error:
        refuse(name, f"its {member.name} is damaged ({error})")
    target.flush()
    target.seek(0)


def _data_limit(control: Stanza) -> int:
    """Bytes that the files may take: Installed-Size counts KiB, rounded up for each, without headers."""
    told = control.get("installed-size", "0").strip()
    size = int(told) if told.isdecimal() and len(told) < 12 else 0
    return min(_DATA_LIMIT, (16 << 20) + 2 * 1024 * size)


def _read_control(file: BinaryIO, name: str) -> tuple[str, str]:
    """The texts of ``control`` and ``md5sums``; the scripts beside them are never run, and not looked at."""
    found: dict[str, bytes] = {}
    for member in _tar(file, name, "control.tar"):
        path = member.name.removeprefix("./")
        if path in ("control", "md5sums"):
            if not member.isreg() or path in found:
                refuse(name, f"its control data have a strange {path}")
            found[path] = os.pread(file.fileno(), member.size, member.offset_data)
    if "control" not in found:
        refuse(name, "it has no control file")
    try:
        return found["control"].decode(), found.get("md5sums", b"").decode()
    except UnicodeDecodeError:
        refuse(name, "its control data are no text")


def _control_fields(text: str, name: str) -> Stanza:
    try:
        stanzas = parse_stanzas(text)
    except ValueError as error:
        refuse(name, f"its control file is damaged: {error}")
    if len(stanzas) != 1 or not {"package", "version", "architecture"} <= stanzas[0].keys():
        refuse(name, "its control file does not describe one package")
    fields = stanzas[0]
    if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", fields["package"]):
        refuse(name, "its control file names no package")
    return fields


def _tar(file: BinaryIO, name: str, what: str) -> Iterator[tarfile.TarInfo]:
    """The members of a plain tar archive, to its very end."""
    length = os.fstat(file.fileno()).st_size
    try:
        headers = Headers(file)
        with tarfile.TarFile(fileobj=headers, encoding="utf-8", errors="surrogateescape") as archive:  # type: ignore[arg-type]
            for member in archive:
                if member.size < 0 or (member.isreg() and member.offset_data + member.size > length):
                    refuse(name, f"its {what} is cut short at {_shown(member.name)}")
                if member.issparse() or len(member.name) > 4096 or len(member.linkname) > 4096:
                    refuse(name, f"its {what} has a strange entry {_shown(member.name)}")
                if archive.pax_headers:
                    refuse(name, f"its {what} has a header for all entries")
                yield member
                headers.refill()
            end = archive.offset
    except DAMAGED as error:
        refuse(name, f"its {what} is damaged ({error})")
    # tarfile takes a damaged header for the end; then what follows is not zeros.
    file.seek(min(end, length))
    while chunk := file.read(_CHUNK):
        if chunk.strip(b"\0"):
            refuse(name, f"its {what} is damaged, or other data follow")


def _entries(file: BinaryIO, name: str) -> Iterator[DebEntry]:
    folders: dict[str, bool] = {}
    files: set[str] = set()
    for member in _tar(file, name, "data.tar"):
        path = _path(member.name, name)
        if path in folders:
            refuse(name, f"{_shown(path)} is there twice")
        folders[path] = member.isdir()
        above = posixpath.dirname(path)
        # dpkg's archives name a folder before what is in it.
        if path != "/" and not folders.get(above, above == "/"):
            refuse(name, f"{_shown(path)} does not lie in a folder of the package")
        mode = member.mode & 0o7777
        if member.isdir():
            if path != "/":
                yield DebEntry(path, "folder", mode)
        elif path == "/":
            refuse(name, "its root is no folder")
        elif member.issym():
            yield DebEntry(path, "link", 0o777, target=_target(path, member.linkname, name))
        elif member.islnk():
            target = _path(member.linkname, name)
            if target not in files:
                refuse(name, f"{_shown(path)} is a hard link to {_shown(target)}, which is no file before it")
            yield DebEntry(path, "hardlink", mode, target=target)
        elif member.isreg():
            files.add(path)
            yield DebEntry(path, "file", mode, member.size, member.offset_data)
        else:
            refuse(name, f"{_shown(path)} is a device or a pipe")


def _path(text: str, name: str) -> str:
    parts = text.split("/")
    if text.startswith("/") or ".." in parts or "\0" in text or not text:
        refuse(name, f"it would write outside of the image, to {_shown(text)}")
    try:
        text.encode()
    except UnicodeEncodeError:
        refuse(name, f"a file's name is no text: {_shown(text)}")
    kept = [part for part in parts if part not in ("", ".")]
    if any(part.startswith(".wh.") for part in kept):
        refuse(name, f"{_shown(text)} would hide other files of the image")
    return "/" + "/".join(kept)


def _target(path: str, target: str, name: str) -> str:
    if not target or "\0" in target:
        refuse(name, f"the link {_shown(path)} leads nowhere")
    try:
        target.encode()
    except UnicodeEncodeError:
        refuse(name, f"the target of the link {_shown(path)} is no text")
    if not target.startswith("/"):
        beside = posixpath.normpath(posixpath.join(posixpath.dirname(path).lstrip("/"), target))
        if beside.split("/")[0] == "..":
            refuse(name, f"the link {_shown(path)} leads outside of the image")
    return target


def _shown(text: str) -> str:
    return repr(text[:120])
