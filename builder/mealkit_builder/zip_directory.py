"""The directory of a zip archive, read so strictly that no two readers of the archive can see different files.

``zipfile`` mends what it can: it looks for the directory wherever it may be and believes it. A wheel that needs mending
is refused instead. Every byte of the file must belong to exactly one thing – a local header, its content, its data
descriptor, the directory, the end – and what is said twice must be said alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct, error, unpack_from

MOST_ENTRIES = 100_000
LONGEST_DIRECTORY = 32 << 20

_LOCAL = Struct("<4s2B4HL2L2H")
_CENTRAL = Struct("<4s4B4HL2L5H2L")
_END = Struct("<4s4H2LH")
_LOCATOR = Struct("<4sLQL")
_END64 = Struct("<4sQ2H2L4Q")
_LONGEST_COMMENT = 0xFFFF
_PAGES = 128  # entries: Linux brings 64 KiB in with each page
_WIDE = 0xFFFFFFFF
_DESCRIPTOR = 0x8
_UTF8 = 0x800
_ZIP64_EXTRA, _UNICODE_NAME_EXTRA = 0x1, 0x7075


class Unsound(ValueError):
    """The archive says two things, or something that cannot be; ``entry`` is the name that it says it of, or empty."""

    def __init__(self, why: str, entry: str = "") -> None:
        super().__init__(why)
        self.entry = entry


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """A line of the directory, which the entry's local header confirms.

    Attributes:
        name: As the archive has it; nothing is mended.
        flags: General purpose bits.
        method: 0 is stored, 8 is DEFLATE.
        crc: CRC-32 of the content.
        size: Length of the content.
        mode: Type and permissions as Unix has them; 0 where the archive does not say.
        header: Where the local header begins.
        start: Where the packed content begins in the file.
        stop: Where it ends.
    """

    name: str
    flags: int
    method: int
    crc: int
    size: int
    mode: int
    header: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class _End:
    count: int
    size: int
    start: int
    stop: int


def read_directory(data: memoryview, forget: Callable[[], None] = lambda: None) -> list[ZipEntry]:
    """All entries of an archive that is ``data`` from the first byte to the last, in the directory's order.

    Names are not judged here, and contents are not looked at; ``forget`` is called now and then to give back the pages
    that local headers brought in.

    Raises:
        Unsound: the archive is damaged, or ambiguous.
    """
    end = _end(data)
    entries: list[ZipEntry] = []
    try:
        at = end.start
        for number in range(end.count):
            entry, at = _entry(data, at, end)
            entries.append(entry)
            if number % _PAGES == 0:
                forget()
    except error as broken:  # struct's: a record is cut off
        raise Unsound("the archive's directory is cut off") from broken
    if at != end.stop:
        raise Unsound("the archive's directory has another length than its end says")
    _check_gapless(data, entries, end.start)
    return entries


def _end(data: memoryview) -> _End:
    """Where the directory is, from the record at the archive's end (APPNOTE.TXT, 4.3.16)."""
    tail = max(0, len(data) - _END.size - _LONGEST_COMMENT)
    found = bytes(data[tail:]).rfind(b"PK\x05\x06")
    at = tail + found
    if found < 0 or at + _END.size > len(data):
        raise Unsound("it cannot be read as a wheel: no zip archive ends there")
    _, disk, start_disk, here, count, size, start, comment = _END.unpack_from(data, at)
    if at + _END.size + comment != len(data):
        raise Unsound("other bytes follow the archive's end")
    stop = at
    if at >= _LOCATOR.size and bytes(data[at - _LOCATOR.size : at - _LOCATOR.size + 4]) == b"PK\x06\x07":
        wide = _end64(data, at - _LOCATOR.size)
        told = zip((here, count, size, start), (wide.count, wide.count, wide.size, wide.start), strict=True)
        limits = (0xFFFF, 0xFFFF, _WIDE, _WIDE)
        if any(short not in (long, limit) for (short, long), limit in zip(told, limits, strict=True)):
            raise Unsound("the archive has two ends that disagree")
        here, count, size, start, stop = wide.count, wide.count, wide.size, wide.start, wide.stop
    if (disk, start_disk) != (0, 0) or here != count:
        raise Unsound("the archive is one of several parts")
    if start + size != stop:
        raise Unsound("the archive's directory is not where its end says, or other bytes stand before the archive")
    if count > MOST_ENTRIES or size > LONGEST_DIRECTORY:
        raise Unsound(f"it has {count} entries in a directory of {size} bytes, more than a wheel may have")
    return _End(count, size, start, stop)


def _end64(data: memoryview, locator: int) -> _End:
    _, disk, at, disks = _LOCATOR.unpack_from(data, locator)
    if disk != 0 or disks > 1 or at + _END64.size != locator:
        raise Unsound("the archive's ZIP64 end is not where its locator says")
    magic, rest, _, _, here_disk, start_disk, here, count, size, start = _END64.unpack_from(data, at)
    if magic != b"PK\x06\x06" or rest != _END64.size - 12 or (here_disk, start_disk) != (0, 0) or here != count:
        raise Unsound("the archive's ZIP64 end is damaged")
    return _End(count, size, start, at)


def _entry(data: memoryview, at: int, end: _End) -> tuple[ZipEntry, int]:
    """The entry whose line of the directory is at ``at``, and where the next line is."""
    (magic, _, _, _, _, flags, method, _, _, crc, packed, size, name_length, extra_length, comment_length, disk, _,
     attributes, header) = _CENTRAL.unpack_from(data, at)  # fmt: skip
    after = at + _CENTRAL.size + name_length + extra_length + comment_length
    if magic != b"PK\x01\x02" or after > end.stop:
        raise Unsound("the archive's directory is damaged")
    raw = bytes(data[at + _CENTRAL.size : at + _CENTRAL.size + name_length])
    try:
        name = raw.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError:
        raise Unsound("its name is not UTF-8, though it says so", ascii(raw)) from None
    extra = _extra(data, at + _CENTRAL.size + name_length, extra_length, name)
    size, packed, header = _widened(extra, (size, packed, header), name)
    if disk not in (0, 0xFFFF):
        raise Unsound("the archive is one of several parts", name)
    start = _local(data, name, raw, (flags, method, crc, packed, size), header)
    stop = start + packed
    if stop > end.start:
        outside = stop > len(data)
        raise Unsound("it lies outside of the file" if outside else "it overlaps the archive's directory", name)
    if method == 0 and packed != size:
        raise Unsound("it is stored, but its two sizes differ", name)
    return ZipEntry(name, flags, method, crc, size, attributes >> 16, header, start, stop), after


def _local(data: memoryview, name: str, raw: bytes, told: tuple[int, int, int, int, int], at: int) -> int:
    """Where the content begins, once the local header says the same as the directory (``told``)."""
    flags, method, crc, packed, size = told
    if at + _LOCAL.size > len(data):
        raise Unsound("it lies outside of the file", name)
    magic, _, _, flags_too, method_too, _, _, crc_too, packed_too, size_too, name_length, extra_length = (
        _LOCAL.unpack_from(data, at)
    )
    start: int = at + _LOCAL.size + name_length + extra_length
    if magic != b"PK\x03\x04" or start > len(data):
        raise Unsound("it lies outside of the file", name)
    if bytes(data[at + _LOCAL.size : at + _LOCAL.size + name_length]) != raw:
        raise Unsound("its local header has another name", name)
    # With a data descriptor the sizes follow the content; in a ZIP64 header they are in its extra field.
    extra = _extra(data, at + _LOCAL.size + name_length, extra_length, name)
    size_too, packed_too, _ = _widened(extra, (size_too, packed_too, 0), name)
    later = flags & _DESCRIPTOR and (crc_too in (0, crc)) and not (packed_too or size_too)
    same = (crc_too, packed_too, size_too) == (crc, packed, size)
    if (flags_too, method_too) != (flags, method) or not (same or later):
        raise Unsound("its local header disagrees with the archive's directory", name)
    return start


def _extra(data: memoryview, at: int, length: int, name: str) -> bytes | None:
    """The ZIP64 field among the extra fields, if there is one."""
    found = None
    stop = at + length
    while at + 4 <= stop:
        kind, size = unpack_from("<2H", data, at)
        at += 4 + size
        if at > stop:
            raise Unsound("its extra fields are damaged", name)
        if kind == _UNICODE_NAME_EXTRA:
            raise Unsound("it has a second name, which only some readers would take", name)
        if kind == _ZIP64_EXTRA:
            if found is not None:
                raise Unsound("it has two ZIP64 fields", name)
            found = bytes(data[at - size : at])
    return found


def _widened(extra: bytes | None, values: tuple[int, int, int], name: str) -> tuple[int, int, int]:
    """``(size, packed size, offset)``, each from the ZIP64 field where the header has no room for it (4.5.3)."""
    if extra is None:
        if _WIDE in values:
            raise Unsound("its ZIP64 field is missing", name)
        return values
    wide = list(values)
    at = 0
    for index, value in enumerate(values):
        if value == _WIDE:
            if at + 8 > len(extra):
                raise Unsound("its ZIP64 field is cut off", name)
            (wide[index],) = unpack_from("<Q", extra, at)
            at += 8
    # Some writers repeat here what had room in the header; some readers then believe this.
    if at == 0 and any(
        unpack_from("<Q", extra, 8 * index)[0] not in (0, values[index]) for index in range(min(2, len(extra) // 8))
    ):
        raise Unsound("its ZIP64 field disagrees with its header", name)
    return wide[0], wide[1], wide[2]


def _check_gapless(data: memoryview, entries: Sequence[ZipEntry], end: int) -> None:
    """Bytes of two entries make a small bomb large; bytes of none hide a file from one reader and not from another."""
    before, last = "", 0
    ordered = sorted(entries, key=lambda entry: entry.header)
    for index, entry in enumerate(ordered):
        if entry.header < last:
            raise Unsound(f"it overlaps {before}", entry.name)
        if entry.header > last:
            raise Unsound("bytes that belong to nothing stand before it", entry.name)
        before, last = entry.name, entry.stop
        if entry.flags & _DESCRIPTOR:
            following = ordered[index + 1].header if index + 1 < len(ordered) else end
            last = _after_descriptor(data, entry, following)
    if last != end:
        raise Unsound("bytes that belong to nothing stand before the archive's directory", before)


def _after_descriptor(data: memoryview, entry: ZipEntry, following: int) -> int:
    """The end of the data descriptor, which may have a signature, and sizes of 4 or 8 bytes (4.3.9)."""
    raw = bytes(data[entry.stop : min(following, entry.stop + 24)])
    packed = entry.stop - entry.start
    for form in ("<LLL", "<LQQ"):
        if len(raw) >= 4 and max(packed, entry.size) > _WIDE and form == "<LLL":
            continue
        plain = Struct(form).pack(entry.crc, packed, entry.size)
        for whole in (plain, b"PK\x07\x08" + plain):
            if raw == whole:
                return entry.stop + len(whole)
    if following < entry.stop:
        return entry.stop  # an overlap, which is told of the entry that follows
    raise Unsound("the data descriptor behind it disagrees with the archive's directory", entry.name)
