"""Reading a wheel with suspicion: its archive is mapped, checked against itself, and never unpacked."""

from __future__ import annotations

import hashlib
import re
import stat
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Mapping
from typing import NoReturn

from mealkit._value import dataclass, field
from mealkit.errors import WheelError

from .inflate import LARGE, Broken, Buffer, check_crc, crc32, inflate_pieces
from .pages import Pages
from .splice import Body, Stream, spliced_body, stored, stored_stream
from .wheel import WheelFile
from .zip_directory import Unsound, ZipEntry, read_directory

_ENCRYPTED, _STRONG_ENCRYPTED = 0x1, 0x40
# The specification of RECORD: "sha256 or better".
_HASHES = {"sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}
_DRIVE = re.compile(r"[A-Za-z]:")
_SIGNATURES = ("RECORD.jws", "RECORD.p7s")
_LONGEST_NAME = 1024
_LONGEST_TEXT = 32 << 20
_RATIO = 100  # real files reach 20, a wheel as a whole hardly 5; DEFLATE itself ends at 1032
_FREE = 64 << 20  # bytes that any wheel may inflate to

WHITEOUT = ".wh."
"""How the name of a whiteout begins (OCI image specification, "Layer"): an engine takes it for a removal."""


@dataclass(frozen=True, slots=True)
class WheelEntry:
    """A file in a wheel: where its raw bytes are, and what they must inflate to."""

    name: str
    start: int
    stop: int
    size: int
    crc: int
    deflated: bool
    executable: bool
    hash: str
    """As RECORD has it, ``sha256=…``; empty for RECORD itself and its signatures."""


@dataclass(frozen=True)
class OpenWheel:
    """A wheel whose directory was read and found sound; the contents are checked as they are read.

    The file stays mapped as long as anything made from it is alive; there is nothing to close.
    """

    wheel: WheelFile
    pages: Pages
    dist_info: str
    entries: Mapping[str, WheelEntry] = field(repr=False)

    def raw(self, entry: WheelEntry) -> memoryview:
        """The bytes of ``entry`` as they are in the archive: raw DEFLATE, or plain where it is stored."""
        return self.pages.data[entry.start : entry.stop]

    def body(self, entry: WheelEntry) -> Body | Stream:
        """The content of ``entry``, checked against the archive's directory and RECORD; in pieces where it is large.

        Raises:
            WheelError: it is not what they say; of a large one the pieces raise it.
        """
        if entry.size > LARGE:
            return Stream(entry.size, self._pieces(entry), entry.crc)
        raw = self.raw(entry)
        try:
            if entry.deflated:
                body = spliced_body(raw, entry.size, entry.crc)
            else:
                check_crc(crc32(raw), entry.crc)
                body = Body(raw, stored(raw), entry.crc)
        except Broken as error:
            refuse(self.wheel, entry.name, str(error))
        algorithm, expected = _expected(entry)
        if algorithm and _HASHES[algorithm](body.plain).digest() != expected:
            refuse(self.wheel, entry.name, f"its {algorithm} is not the one in RECORD")
        self.pages.read(len(raw))
        return body

    def _pieces(self, entry: WheelEntry) -> Iterator[tuple[Buffer, tuple[Buffer, ...]]]:
        """A large content's ``(plain, deflate)``."""
        raw = self.raw(entry)
        algorithm, expected = _expected(entry)
        state = _HASHES[algorithm]() if algorithm else None
        try:
            for plain, deflate in self._deflated(entry, raw) if entry.deflated else self._stored(entry, raw):
                if state is not None:
                    state.update(plain)
                yield plain, deflate
                self.pages.read(sum(map(len, deflate)))
        except Broken as error:
            refuse(self.wheel, entry.name, str(error))
        if state is not None and state.digest() != expected:
            refuse(self.wheel, entry.name, f"its {algorithm} is not the one in RECORD")

    def _deflated(self, entry: WheelEntry, raw: memoryview) -> Iterator[tuple[Buffer, tuple[Buffer, ...]]]:
        for packed, plain in inflate_pieces(raw, entry.size, entry.crc):
            yield plain, (packed,)

    def _stored(self, entry: WheelEntry, raw: memoryview) -> Iterator[tuple[Buffer, tuple[Buffer, ...]]]:
        crc = 0
        for plain, deflate in stored_stream(entry.size, (raw,)).pieces:
            crc = crc32(plain, crc)
            yield plain, deflate
        check_crc(crc, entry.crc)

    def read(self, entry: WheelEntry) -> bytes:
        """The checked content of ``entry``, whole."""
        body = self.body(entry)
        return b"".join(plain for plain, _ in body.pieces) if isinstance(body, Stream) else bytes(body.plain)

    def check_sha256(self) -> None:
        """Raise :class:`WheelError` unless the file's sha256 is the one that its layer will be known by."""
        state = hashlib.sha256()
        for at in range(0, len(self.pages.data), LARGE):
            piece = self.pages.data[at : at + LARGE]
            state.update(piece)
            self.pages.read(len(piece))
        if state.hexdigest() != self.wheel.sha256:
            refuse(self.wheel, "", "the file's sha256 is not the locked one")


def _expected(entry: WheelEntry) -> tuple[str, bytes]:
    """Algorithm and digest that RECORD has of an entry."""
    algorithm, _, value = entry.hash.partition("=")
    return algorithm, _decode_hash(value)


def refuse(wheel: WheelFile, entry: str, why: str) -> NoReturn:
    """Raise the :class:`WheelError` that tells which wheel, and which file in it, is not acceptable."""
    raise WheelError(
        f"the wheel of {wheel.name} {wheel.version} cannot be used: {why}",
        where=f"{wheel.filename}: {entry}" if entry else wheel.filename,
        hint=f"fetch it again; if the index has it so, choose another version of {wheel.name} or tell its authors",
    )


def open_wheel(wheel: WheelFile) -> OpenWheel:
    """Map a wheel and read its directory; no content but RECORD and METADATA is looked at yet.

    Raises:
        WheelError: the file is missing or no archive; an entry is encrypted, a link, a device, named twice, named
            so that it could leave its folder, packed by an unknown method, or overlaps another; the local headers
            tell another story than the central directory; there is not exactly one ``.dist-info`` folder, or its
            name, METADATA and the file name disagree; RECORD does not list exactly the files that are there.
    """
    if wheel.path is None:
        refuse(wheel, "", "it was not fetched")
    try:
        with wheel.path.open("rb") as file:
            pages = Pages(file)
    except (OSError, ValueError) as error:  # mmap's ValueError: the file is empty
        refuse(wheel, "", f"it cannot be read as a wheel ({error})")
    data = pages.data
    if wheel.size not in (0, len(data)):
        refuse(wheel, "", f"it has {len(data)} bytes where {wheel.size} were expected")
    try:
        listed = read_directory(data, pages.forget)
    except Unsound as error:
        refuse(wheel, error.entry, str(error))
    found = {
        entry.name: WheelEntry(
            entry.name,
            entry.start,
            entry.stop,
            entry.size,
            entry.crc,
            entry.method == 8,
            stat.S_ISREG(entry.mode) and bool(entry.mode & 0o111),
            "",
        )
        for entry in _check_names(wheel, listed)
    }
    _check_bomb(wheel, found)
    dist_info = _dist_info(wheel, found)
    opened = OpenWheel(wheel, pages, dist_info, found)
    _check_metadata(opened)
    opened = OpenWheel(wheel, pages, dist_info, _with_hashes(opened))
    pages.forget()
    return opened


def _check_names(wheel: WheelFile, entries: list[ZipEntry]) -> Iterator[ZipEntry]:
    """The regular files among the archive's entries, once no name can do harm."""
    seen: dict[str, str] = {}
    for entry in entries:
        name = entry.name
        parts = name.removesuffix("/").split("/")
        if "\\" in name or not name.isprintable():
            refuse(wheel, ascii(name), "the name has a backslash or a control character")
        if name.startswith("/") or _DRIVE.match(name):
            refuse(wheel, name, "the name is absolute")
        if any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts) or len(name) > _LONGEST_NAME:
            refuse(wheel, name[:300], "the name has an empty, dotted or over-long part")
        if any(part.startswith(WHITEOUT) for part in parts):
            refuse(wheel, name, "in a layer a file of this name removes another one (a whiteout)")
        folded = _folded(name)
        if folded in seen:
            other = seen[folded]
            alike = "twice" if other == name else f"twice, but for upper and lower case: {other}"
            refuse(wheel, name, f"the name stands in the archive {alike}")
        seen[folded] = name
        kind = stat.S_IFMT(entry.mode)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR) > name.endswith("/"):
            refuse(wheel, name, "it is a link or a device")
        if entry.mode & (stat.S_ISUID | stat.S_ISGID) and not name.endswith("/"):
            refuse(wheel, name, "it would run as another user (a set-user-ID or set-group-ID bit)")
        if entry.flags & (_ENCRYPTED | _STRONG_ENCRYPTED):
            refuse(wheel, name, "it is encrypted")
        if entry.method not in (0, 8):
            refuse(wheel, name, f"it is packed by method {entry.method}, wheels may use 0 and 8")
        if not name.endswith("/"):
            yield entry
        elif entry.size:
            refuse(wheel, name, "it is a folder with content")


def _folded(name: str) -> str:
    """What a file system that ignores case, and how letters are composed, would call ``name``."""
    if name.isascii():
        return name.lower()
    from unicodedata import normalize

    return normalize("NFC", normalize("NFC", name).casefold())


def _check_bomb(wheel: WheelFile, entries: Mapping[str, WheelEntry]) -> None:
    """Refuse what inflates beyond all that software does, before any of it is inflated."""
    packed = plain = 0
    for entry in entries.values():
        packed += entry.stop - entry.start
        plain += entry.size
        if entry.size > _FREE and entry.size > _RATIO * (entry.stop - entry.start):
            refuse(wheel, entry.name, f"it would inflate to more than {_RATIO} times its size: a bomb")
    if plain > _FREE and plain > _RATIO * packed:
        refuse(wheel, "", f"it would inflate to more than {_RATIO} times its size: a bomb")


def _dist_info(wheel: WheelFile, names: Mapping[str, WheelEntry]) -> str:
    """The one ``NAME-VERSION.dist-info`` folder, which must agree with the file name and with what was asked for."""
    from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
    from packaging.version import InvalidVersion, Version

    found = sorted(
        {top for top, slash, _ in (name.partition("/") for name in names) if slash and top.endswith(".dist-info")}
    )
    if len(found) != 1:
        refuse(wheel, ", ".join(found), f"it has {len(found)} .dist-info folders instead of one")
    try:
        name, version, _, _ = parse_wheel_filename(wheel.filename)
        if (name, version) != (canonicalize_name(wheel.name), Version(wheel.version)):
            refuse(wheel, "", f"its file name says {name} {version}")
        folder_name, _, folder_version = found[0].removesuffix(".dist-info").partition("-")
        if (canonicalize_name(folder_name), Version(folder_version)) != (name, version):
            refuse(wheel, found[0], "the folder's name disagrees with the file name")
    except (InvalidWheelFilename, InvalidVersion) as error:
        refuse(wheel, found[0], str(error))
    for top in {name.partition("/")[0] for name in names if "/" in name}:
        if top.endswith(".data") and top != found[0].removesuffix(".dist-info") + ".data":
            refuse(wheel, top, "the folder's name disagrees with the .dist-info folder")
    return found[0]


def _check_metadata(opened: OpenWheel) -> None:
    """METADATA must be there and name the same distribution as the file name."""
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

    where = f"{opened.dist_info}/METADATA"
    fields = dict[str, str]()
    for line in read_text(opened, where).splitlines():
        if not line.strip():
            break
        key, colon, value = line.partition(":")
        if colon and key.lower() in ("name", "version"):
            fields.setdefault(key.lower(), value.strip())
    wheel = opened.wheel
    try:
        same = canonicalize_name(fields["name"]) == canonicalize_name(wheel.name) and Version(
            fields["version"]
        ) == Version(wheel.version)
    except (KeyError, InvalidVersion):
        same = False
    if not same:
        refuse(wheel, where, f"it is the metadata of {fields.get('name')} {fields.get('version')}")


def read_text(opened: OpenWheel, name: str) -> str:
    """A text file of the wheel.

    Raises:
        WheelError: it is missing, damaged, or not UTF-8.
    """
    entry = opened.entries.get(name)
    if entry is None:
        refuse(opened.wheel, name, "it is missing")
    if entry.size > _LONGEST_TEXT:
        refuse(opened.wheel, name, f"it has {entry.size} bytes: too long for a file about the wheel")
    try:
        return opened.read(entry).decode("utf-8")
    except UnicodeDecodeError as error:
        refuse(opened.wheel, name, str(error))


def _with_hashes(opened: OpenWheel) -> dict[str, WheelEntry]:
    """The entries with the hashes of RECORD, which must list just them.

    Compiled bytecode is left out: what it was compiled from is here, and it could be of anything.
    """
    from mealkit._value import replace

    where = f"{opened.dist_info}/RECORD"
    unhashed = {where, *(f"{opened.dist_info}/{name}" for name in _SIGNATURES)}
    rows = {row[0]: row for row in _record_rows(opened, where)}
    result: dict[str, WheelEntry] = {}
    for name, entry in opened.entries.items():
        row = rows.pop(name, None)
        if "/__pycache__/" in f"/{name}":
            continue
        if name in unhashed:
            result[name] = entry
            continue
        if row is None:
            refuse(opened.wheel, name, "RECORD does not list it")
        _, text, size = row
        algorithm, _, value = text.partition("=")
        if algorithm not in _HASHES or not _decode_hash(value):
            refuse(opened.wheel, name, "RECORD has no usable hash of it")
        if size and size != str(entry.size):
            refuse(opened.wheel, name, f"RECORD says that it has {size} bytes, it has {entry.size}")
        result[name] = replace(entry, hash=text)
    missing = sorted(name for name in rows if name not in unhashed and "/__pycache__/" not in f"/{name}")
    if missing:
        refuse(opened.wheel, missing[0], "RECORD lists it, but it is missing")
    return result


def _record_rows(opened: OpenWheel, where: str) -> Iterator[tuple[str, str, str]]:
    import csv

    seen: set[str] = set()
    try:
        for row in csv.reader(read_text(opened, where).splitlines(), strict=True):
            if not row:
                continue
            if len(row) != 3:
                refuse(opened.wheel, where, f"a line of it has {len(row)} fields instead of 3")
            if row[0] in seen:
                refuse(opened.wheel, row[0], "RECORD lists it twice")
            seen.add(row[0])
            yield row[0], row[1], row[2]
    except csv.Error as error:
        refuse(opened.wheel, where, str(error))


def _decode_hash(value: str) -> bytes:
    try:
        return urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except ValueError:
        return b""
