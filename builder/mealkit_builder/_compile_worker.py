"""Compiles Python sources to unchecked-hash bytecode; run as ``python -I -S _compile_worker.py``.

First it writes a frame that says who it is (``VERSION MAGIC ABIFLAGS IMPLEMENTATION``). Then it reads pairs of frames
from standard input, the path that the code objects are to have and the source, and answers each with a frame, the
``.pyc`` file, which is empty for a source that can't be compiled. A frame is a length (4 bytes, least significant
first) and as many bytes.

What ``marshal`` writes depends on which strings the process holds elsewhere (it marks what has other references), so
this script imports little, keeps nothing from one source to the next, and loads every codec that it lets a source
name before the first.
"""

from __future__ import annotations

import _frozen_importlib_external
import _imp
import codecs
import marshal
import re
import sys

TYPE_CHECKING = False  # typing itself is not imported
if TYPE_CHECKING:
    from typing import BinaryIO

_COOKIE = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")  # PEP 263
_BLANK = re.compile(rb"[ \t\f]*(?:#.*)?$")
_NEWLINE = re.compile(rb"\r\n?|\n")
_ENCODINGS = {
    "utf-8",
    "utf8",
    "utf-8-sig",
    "ascii",
    "us-ascii",
    "latin-1",
    "latin1",
    "iso-8859-1",
    "iso8859-1",
    "iso-8859-15",
    "iso8859-15",
    "cp1252",
    "windows-1252",
}
_UNCHECKED_HASH = (0b01).to_bytes(4, "little")  # PEP 552
_MAGIC = _frozen_importlib_external.MAGIC_NUMBER


def known_encoding(source: bytes) -> bool:
    """Whether the source is in an encoding that was loaded before any source was."""
    for line in _NEWLINE.split(source, 2)[:2]:
        cookie = _COOKIE.match(line)
        if cookie:
            return cookie.group(1).decode("ascii", "replace").lower().replace("_", "-") in _ENCODINGS
        if not _BLANK.match(line):
            break
    return True


def compiled(path: str, source: bytes) -> bytes:
    """The ``.pyc`` of a source, empty if there is none."""
    if not known_encoding(source):
        return b""
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
        data = marshal.dumps(code)
    except Exception:  # whatever is wrong with it: importing it at run time will tell
        return b""
    return _MAGIC + _UNCHECKED_HASH + _imp.source_hash(int.from_bytes(_MAGIC, "little"), source) + data


def read_frame(stream: BinaryIO) -> bytes | None:
    """The next frame, or None at the end."""
    length = stream.read(4)
    return stream.read(int.from_bytes(length, "little")) if length else None


def write_frame(stream: BinaryIO, data: bytes) -> None:
    """Write a frame, at once: who asked may wait for it."""
    stream.write(len(data).to_bytes(4, "little"))
    stream.write(data)
    stream.flush()


def main() -> None:
    """Answer until standard input ends."""
    for encoding in sorted(_ENCODINGS):
        codecs.lookup(encoding)
    source, target = sys.stdin.buffer, sys.stdout.buffer
    about = (sys.version.split()[0], int.from_bytes(_MAGIC[:2], "little"), sys.abiflags or "-", sys.implementation.name)
    write_frame(target, " ".join(map(str, about)).encode())
    while (path := read_frame(source)) is not None:
        write_frame(target, compiled(path.decode(), read_frame(source) or b""))


if __name__ == "__main__":
    main()
