r"""Tar headers that never differ: the one file that owns the determinism of a layer's entries.

Every field of a header (POSIX.1-2001 *ustar*, 512 bytes) is fixed here and nowhere else:

========== =====================================================================================
field      value
========== =====================================================================================
name       path without the leading slash; directories end in a slash; split into prefix and name
mode       0644, executables 0755, directories 0755, links 0777; or the explicit ``mode``
uid, gid   0
size       the file's length; 0 for directories and links
mtime      315532800 (1980-01-01T00:00:00Z): zip archives, and so ``zipfile``, know no earlier time
typeflag   ``0`` file, ``1`` hard link, ``2`` symbolic link, ``5`` directory, ``x`` extended header
linkname   a symbolic link's target as given, a hard link's without the leading slash, else empty
magic      ``ustar\0``, version ``00``
uname      empty, and gname too: readers then take the numbers and look up no local user
devmajor   0, and devminor too
padding    zero bytes up to the next multiple of 512
end        two blocks of zero bytes, and no more: no padding up to 10,240 bytes
========== =====================================================================================

What a ustar header can't say (a name that is too long or not ASCII, a target likewise, a size of 8 GiB
or more) goes into a POSIX.1-2001 (pax) extended header before it, which holds ``linkpath``, ``path`` and
``size`` in that order, only those that are needed. No times, no process numbers, no locale.
"""

from __future__ import annotations

BLOCK = 512
MTIME = 315532800
END_OF_ARCHIVE = bytes(2 * BLOCK)

_FILE, _HARD_LINK, _SYMLINK, _DIRECTORY, _EXTENDED = b"0", b"1", b"2", b"5", b"x"
_NAME_LENGTH, _PREFIX_LENGTH = 100, 155
_SIZE_LIMIT = 8**11
_ZERO = b"0000000\0"  # uid, gid, devmajor and devminor: seven octal digits and a NUL
_TIME = b"%011o\0" % MTIME
_MAGIC = b"ustar\x0000" + bytes(64)  # magic, version, uname, gname


def tar_name(path: str) -> str:
    """A path in an image as an archive writes it: without the leading slash."""
    return path.lstrip("/")


def padding(size: int) -> bytes:
    """The zero bytes that follow ``size`` bytes of content."""
    return bytes(-size % BLOCK)


def file_header(path: str, size: int, executable: bool = False, *, mode: int | None = None) -> bytes:
    """What stands before a regular file's ``size`` bytes of content."""
    if mode is None:
        mode = 0o755 if executable else 0o644
    return _entry(tar_name(path), mode, size, _FILE, "")


def directory_header(path: str, *, mode: int = 0o755) -> bytes:
    """A directory; ``mode`` for the few that are special, such as 0o1777 for ``/tmp``."""
    return _entry(tar_name(path).rstrip("/") + "/", mode, 0, _DIRECTORY, "")


def symlink_header(path: str, target: str) -> bytes:
    """A symbolic link to ``target``, which is written as given, relative or absolute."""
    return _entry(tar_name(path), 0o777, 0, _SYMLINK, target)


def hard_link_header(path: str, target: str, *, mode: int) -> bytes:
    """Another name of the file at the absolute path ``target``, which stands before it; ``mode`` is that file's."""
    return _entry(tar_name(path), mode, 0, _HARD_LINK, tar_name(target))


def _entry(name: str, mode: int, size: int, kind: bytes, target: str) -> bytes:
    if "\0" in name or "\0" in target or not name.strip("/"):
        raise ValueError(f"not a path that an archive can hold: {name or target!r}")
    raw_name, raw_target = name.encode(), target.encode()
    extended: list[bytes] = []
    if len(raw_target) > _NAME_LENGTH or not raw_target.isascii():
        extended.append(_record(b"linkpath", raw_target))
        raw_target = _ascii(target)[:_NAME_LENGTH]
    split = _split(raw_name) if raw_name.isascii() else None
    if split is None:
        extended.append(_record(b"path", raw_name))
        # A directory's name keeps its slash: readers without pax support see it by that.
        split = (b"", _ascii(name)[: _NAME_LENGTH - 1] + b"/" if kind == _DIRECTORY else _ascii(name)[:_NAME_LENGTH])
    if size >= _SIZE_LIMIT:
        extended.append(_record(b"size", b"%d" % size))
    header = _block(split, mode, size if size < _SIZE_LIMIT else 0, kind, raw_target)
    if not extended:
        return header
    records = b"".join(extended)
    before = _block((b"", b"PaxHeaders/entry"), 0o644, len(records), _EXTENDED, b"")
    return before + records + padding(len(records)) + header


def _block(split: tuple[bytes, bytes], mode: int, size: int, kind: bytes, target: bytes) -> bytes:
    prefix, name = split
    front = name.ljust(_NAME_LENGTH, b"\0") + b"%07o\0" % mode + _ZERO + _ZERO + b"%011o\0" % size + _TIME
    back = kind + target.ljust(_NAME_LENGTH, b"\0") + _MAGIC + _ZERO + _ZERO + prefix.ljust(_PREFIX_LENGTH + 12, b"\0")
    # The checksum is summed with its own field read as eight spaces.
    return front + b"%06o\0 " % (sum(front) + sum(back) + 8 * 0x20) + back


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """``(prefix, name)`` of a ustar header, the slash between them left out; None when it doesn't fit."""
    if len(name) <= _NAME_LENGTH:
        return b"", name
    # The slash must leave a name of 1 to 100 bytes and a prefix of at most 155.
    cut = name.find(b"/", max(1, len(name) - _NAME_LENGTH - 1), len(name) - 1)
    return (name[:cut], name[cut + 1 :]) if 0 < cut <= _PREFIX_LENGTH else None


def _record(key: bytes, value: bytes) -> bytes:
    r"""``LENGTH KEY=VALUE\n``, whose length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _ascii(text: str) -> bytes:
    return text.encode("ascii", "replace")
