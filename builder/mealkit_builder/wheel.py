"""Reading a wheel with suspicion: its archive is mapped, checked against itself, and never unpacked."""

from __future__ import annotations

import hashlib
import mmap
import re
import stat
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, NoReturn

from mealkit.errors import WheelError

from .splice import Body, Broken, check_crc, spliced_body, stored

if TYPE_CHECKING:
    from zipfile import ZipInfo

_LOCAL_HEADER = Struct("<4s2B4HL2L2H")
_ENCRYPTED, _DESCRIPTOR, _STRONG_ENCRYPTED = 0x1, 0x8, 0x40
_HASHES = ("sha256", "sha384", "sha512")  # the specification of RECORD: "sha256 or better"
_DRIVE = re.compile(r"[A-Za-z]:")
_SIGNATURES = ("RECORD.jws", "RECORD.p7s")


@dataclass(frozen=True)
class WheelFile:
    """A wheel by name; its bytes are at ``path``, if they are on this machine at all.

    Attributes:
        name: The distribution's name, as the lock writes it.
        version: Its version.
        filename: The wheel's file name, which says what it runs on.
        sha256: Of the wheel file, as 64 hexadecimal digits; all that is made of the wheel hangs on it.
        size: Length of the wheel file in bytes; 0 where the index, a mere page of links, does not tell.
        path: The file, once it was fetched.
        url: Where to fetch it from; None for a wheel that is a file already.
    """

    name: str
    version: str
    filename: str
    sha256: str
    size: int
    path: Path | None = None
    url: str | None = None


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
    data: memoryview
    dist_info: str
    entries: Mapping[str, WheelEntry] = field(repr=False)

    def raw(self, entry: WheelEntry) -> memoryview:
        """The bytes of ``entry`` as they are in the archive: raw DEFLATE, or plain where it is stored."""
        return self.data[entry.start : entry.stop]

    def body(self, entry: WheelEntry) -> Body:
        """The content of ``entry``, checked against the archive's directory and RECORD.

        Raises:
            WheelError: it is not what they say.
        """
        raw = self.raw(entry)
        try:
            if entry.deflated:
                body = spliced_body(raw, entry.size, entry.crc)
            else:
                check_crc(raw, entry.crc)
                body = Body(raw, stored(raw), entry.crc)
        except Broken as error:
            refuse(self.wheel, entry.name, str(error))
        if entry.hash:
            algorithm, _, expected = entry.hash.partition("=")
            if hashlib.new(algorithm, body.plain).digest() != _decode_hash(expected):
                refuse(self.wheel, entry.name, f"its {algorithm} is not the one in RECORD")
        return body

    def read(self, entry: WheelEntry) -> bytes:
        """The checked content of ``entry``."""
        return bytes(self.body(entry).plain)

    def check_sha256(self) -> None:
        """Raise :class:`WheelError` unless the file's sha256 is the one that its layer will be known by."""
        if hashlib.sha256(self.data).hexdigest() != self.wheel.sha256:
            refuse(self.wheel, "", "the file's sha256 is not the locked one")


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
    from zipfile import BadZipFile, ZipFile  # takes as long to import as a build in which nothing changed may last

    if wheel.path is None:
        refuse(wheel, "", "it was not fetched")
    try:
        with wheel.path.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            with ZipFile(file) as archive:
                infos, end = archive.infolist(), archive.start_dir
    except (OSError, ValueError, BadZipFile, NotImplementedError) as error:
        refuse(wheel, "", f"it cannot be read as a wheel ({error})")
    if wheel.size not in (0, len(data)):
        refuse(wheel, "", f"it has {len(data)} bytes where {wheel.size} were expected")
    files = _check_names(wheel, infos)
    found = {info.filename: _locate(wheel, data, info) for info in files}
    _check_overlap(wheel, infos, found, end)
    dist_info = _dist_info(wheel, found)
    opened = OpenWheel(wheel, data, dist_info, found)
    _check_metadata(opened)
    return OpenWheel(wheel, data, dist_info, _with_hashes(opened))


def _check_names(wheel: WheelFile, infos: list[ZipInfo]) -> list[ZipInfo]:
    """The regular files among the archive's entries, once no name can do harm."""
    seen: set[str] = set()
    files: list[ZipInfo] = []
    for info in infos:
        # zipfile cuts names at a NUL and changes separators; what it started from tells what was meant.
        name = info.orig_filename
        parts = name.removesuffix("/").split("/")
        if "\\" in name or not name.isprintable():
            refuse(wheel, ascii(name), "the name has a backslash or a control character")
        if name.startswith("/") or _DRIVE.match(name):
            refuse(wheel, name, "the name is absolute")
        if any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts):
            refuse(wheel, name, "the name has an empty, dotted or over-long part")
        if name in seen:
            refuse(wheel, name, "the name stands in the archive twice")
        seen.add(name)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR) > name.endswith("/"):
            refuse(wheel, name, "it is a link or a device")
        if info.flag_bits & (_ENCRYPTED | _STRONG_ENCRYPTED):
            refuse(wheel, name, "it is encrypted")
        if info.compress_type not in (0, 8):
            refuse(wheel, name, f"it is packed by method {info.compress_type}, wheels may use 0 and 8")
        if name.endswith("/"):
            if info.file_size:
                refuse(wheel, name, "it is a folder with content")
        else:
            files.append(info)
    return files


def _locate(wheel: WheelFile, data: memoryview, info: ZipInfo) -> WheelEntry:
    """Where the entry's content is, once its local header agrees with the central directory."""
    name, at = info.filename, info.header_offset
    if at < 0 or at + _LOCAL_HEADER.size > len(data):
        refuse(wheel, name, "it lies outside of the file")
    (magic, _, _, flags, method, _, _, crc, packed, size, name_length, extra_length) = _LOCAL_HEADER.unpack_from(
        data, at
    )
    start = at + _LOCAL_HEADER.size + name_length + extra_length
    stop = start + info.compress_size
    local_name = bytes(data[at + _LOCAL_HEADER.size : at + _LOCAL_HEADER.size + name_length])
    if magic != b"PK\x03\x04" or stop > len(data):
        refuse(wheel, name, "it lies outside of the file")
    if local_name != info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437"):
        refuse(wheel, name, "its local header has another name")
    same = (crc, packed, size) == (info.CRC, info.compress_size, info.file_size)
    # With a data descriptor the sizes may follow the content; in a ZIP64 header they are in its extra field.
    later = flags & _DESCRIPTOR and not (crc or packed or size)
    wide = 0xFFFFFFFF in (packed, size) and crc in (info.CRC, 0)
    if flags != info.flag_bits or method != info.compress_type or not (same or later or wide):
        refuse(wheel, name, "its local header disagrees with the archive's directory")
    if method == 0 and info.compress_size != info.file_size:
        refuse(wheel, name, "it is stored, but its two sizes differ")
    mode = info.external_attr >> 16
    executable = stat.S_ISREG(mode) and bool(mode & 0o111)
    return WheelEntry(name, start, stop, info.file_size, info.CRC, method == 8, executable, "")


def _check_overlap(wheel: WheelFile, infos: list[ZipInfo], found: Mapping[str, WheelEntry], end: int) -> None:
    """Refuse an archive in which bytes belong to two entries: the way to make a small bomb large."""
    before, last = "", 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < last:
            refuse(wheel, info.filename, f"it overlaps {before}")
        entry = found.get(info.filename)
        before, last = info.filename, entry.stop if entry else info.header_offset + _LOCAL_HEADER.size
    if last > end:
        refuse(wheel, before, "it overlaps the archive's directory")


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
    try:
        return opened.read(entry).decode("utf-8")
    except UnicodeDecodeError as error:
        refuse(opened.wheel, name, str(error))


def _with_hashes(opened: OpenWheel) -> dict[str, WheelEntry]:
    """The entries with the hashes of RECORD, which must list just them.

    Compiled bytecode is left out: what it was compiled from is here, and it could be of anything.
    """
    from dataclasses import replace

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
