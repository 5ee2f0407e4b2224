"""What is wrong with a file that a library cannot read, in words that help."""

from __future__ import annotations

import contextlib
import errno
import gzip
import lzma
import os
import zlib
from collections.abc import Iterator

import pyarrow as pa

from mealkit.errors import MealkitError, UnreadableDataError

from .data_file import DataFile
from .file_system import trouble

_MAGIC = (
    (b"PAR1", "Parquet", (".parquet", ".pq")),
    (b"\x1f\x8b", "gzip", (".gz",)),
    (b"ARROW1", "Arrow", (".arrow", ".feather", ".ipc")),
    (b"PK\x03\x04", "zip", ()),
    (b"BZh", "bzip2", (".bz2",)),
    (b"\xfd7zXZ\x00", "xz", (".xz",)),
    (b"\x28\xb5\x2f\xfd", "Zstandard", (".zst",)),
    (b"\x04\x22\x4d\x18", "LZ4", (".lz4",)),
)


@contextlib.contextmanager
def guard(file: DataFile) -> Iterator[None]:
    """What a library says of a broken file becomes an :class:`UnreadableDataError` that names the file.

    Of a far file that cannot be reached it becomes what :func:`~mealkit_runtime.file_system.trouble` says.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise unreadable(file, f"it is not UTF-8 (byte {error.start:,})", hint_of(file, UTF8)) from None
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise unreadable(file, f"its compressed data are cut or broken ({error})", _AGAIN) from None
    except pa.ArrowException as error:
        raise _lost(file, error) or unreadable(file, _line(error), hint_of(file)) from None
    except OSError as error:
        if (found := _lost(file, error)) is not None:
            raise found from None
        if error.errno is None:  # Arrow's own "I/O" errors, of a page that does not decompress, say
            raise unreadable(file, _line(error), hint_of(file)) from None
        hints = {errno.EACCES: "let this user read it", errno.ENOENT: "it was there when the dataset was listed"}
        if file.columns is not None:
            hints[errno.ENOENT] = "the table's log names it; VACUUM may have removed it: name a later version"
        what = os.strerror(error.errno).lower()
        raise unreadable(file, what, hints.get(error.errno, "check the path and the disk")) from None
    except Exception as error:
        # Libraries of far file systems have errors of their own.
        if isinstance(error, MealkitError) or (found := _lost(file, error)) is None:
            raise
        raise found from None


def _lost(file: DataFile, error: Exception) -> MealkitError | None:
    return None if file.location.local is not None else trouble(error, file.name)


UTF8 = "write it as UTF-8, such as by: iconv -f latin1 -t utf-8"
_AGAIN = "the file may be cut off: write or copy it again"


def unreadable(file: DataFile, what: str, hint: str) -> UnreadableDataError:
    """The error of a file."""
    return UnreadableDataError(f"cannot read the file: {what}", where=file.name, hint=hint)


def _line(error: BaseException) -> str:
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return line if len(line) <= 200 else line[:200] + "…"


def hint_of(file: DataFile, else_: str = _AGAIN) -> str:
    """What the first bytes say, if it is not what the name says."""
    with contextlib.suppress(Exception), file.raw() as raw:
        start = raw.read(8)
        name = file.location.path.partition("?")[0].lower()
        for magic, what, endings in _MAGIC:
            if start.startswith(magic) and not name.endswith(endings or "/"):
                return f"its content is {what}, not what its name says: rename it" + (
                    f" to end in {endings[0]}" if endings else ""
                )
        if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in start[:4]:
            return "it may be UTF-16: write it as UTF-8, such as by: iconv -f utf-16 -t utf-8"
    return else_


def refuse_binary(file: DataFile, text: str) -> None:
    """A text file that begins so is none.

    Raises:
        UnreadableDataError: it is binary.
    """
    if text.startswith(("PAR1", "ARROW1", "PK\x03\x04")) or "\0" in text:
        raise unreadable(file, "it is no text", hint_of(file))
