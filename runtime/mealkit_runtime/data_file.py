"""One file of a dataset: where it is, its format, how to open it on any file system, and what its place tells of it."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, TextIO

from .file_system import HTTP, Location, of_fsspec

FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
"""The format that each ending stands for."""

COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd", ".lz4": "lz4"}
"""What may follow the ending of a text format."""

KNOWN = (
    "known endings: .parquet, .csv, .jsonl, .arrow; .csv and .jsonl also packed (.csv.gz, .bz2, .xz, .zst, .lz4); "
    "a Delta table is a folder with _delta_log"
)

_TEXT = ("csv", "jsonl")


@dataclass(frozen=True)
class DataFile:
    """One file of a dataset.

    Attributes:
        location: Where it is.
        size: Its bytes; None: not known.
        partition: The columns that stand in its path (``column=value/``), as texts; None: the value is missing.
        bounds: What is known of its columns without opening it: least and greatest value, and how many are missing.
        rows: How many rows it has, where that is known without opening it.
        columns: The columns that the table declares, with their kinds, where a table's log does; a file that was
            written before one of them was added lacks it. None: the file tells itself.
        renamed: What the table calls the file's columns, by what the file calls them; others were dropped. None: the
            same.
        groups: Only these row groups of a Parquet file are read; none of them: nothing is read of the file, whatever
            its format; None: all of it.
        kept: Which rows count (Arrow booleans; rows behind its end do), where a table's log marks others as deleted.
    """

    location: Location
    size: int | None = None
    partition: Mapping[str, str | None] = field(default_factory=dict)
    bounds: Mapping[str, tuple[Any, Any, int | None]] = field(default_factory=dict)
    rows: int | None = None
    columns: Mapping[str, str] | None = None
    renamed: Mapping[str, str] | None = None
    groups: tuple[int, ...] | None = None
    kept: Any = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """What messages call it: the path, or the URI without what may be a secret."""
        return self.location.path if self.location.local is not None else self.location.uri

    @property
    def format(self) -> str | None:
        """The format that the file's ending stands for; None: none."""
        return format_of(self.location.path)

    @contextlib.contextmanager
    def random(self) -> Iterator[Any]:
        """The file, to be read at any place: what pyarrow takes, a path where it is on this machine."""
        local = self.location.local
        if local is not None:
            yield local
        elif self.location.kind == HTTP:
            with _seekable(of_fsspec(HTTP).open(self.location.path, mode="rb", block_size=1 << 20)) as file:
                yield file
        else:
            with self.location.file_system.open_input_file(self.location.path) as file:
                yield file

    def raw(self) -> Any:
        """The file's bytes from the first to the last, as they are stored."""
        local = self.location.local
        if local is not None:
            return local.open("rb")
        if self.location.kind == HTTP:
            return of_fsspec(HTTP).open(self.location.path, mode="rb", block_size=1 << 20)
        return self.location.file_system.open_input_stream(self.location.path, buffer_size=1 << 20)

    @contextlib.contextmanager
    def bytes(self) -> Iterator[Any]:
        """The file's bytes from the first to the last, unpacked if the name says that they are packed."""
        packing = compression_of(self.location.path)
        with contextlib.ExitStack() as stack:
            raw = stack.enter_context(self.raw())
            if packing is None:
                yield raw
            elif packing in ("zstd", "lz4"):
                import pyarrow as pa

                source = raw if isinstance(raw, pa.NativeFile) else pa.PythonFile(raw, mode="r")
                yield stack.enter_context(pa.CompressedInputStream(source, packing))
            else:
                yield stack.enter_context(_OPENERS[packing](raw, "rb"))

    @contextlib.contextmanager
    def text(self, newline: str | None = None, errors: str = "strict") -> Iterator[TextIO]:
        """The file as text: UTF-8, with or without a byte-order mark, unpacked; see :func:`open` for the arguments."""
        with self.bytes() as stream:
            buffered: Any = stream if isinstance(stream, io.BufferedIOBase) else io.BufferedReader(stream, 1 << 18)
            with io.TextIOWrapper(buffered, encoding="utf-8-sig", errors=errors, newline=newline) as text:
                yield text


_OPENERS: dict[str, Callable[..., Any]] = {"gzip": gzip.open, "bz2": bz2.open, "xz": lzma.open}


def format_of(path: object) -> str | None:
    """The format that a file's ending stands for; None: none."""
    plain = PurePosixPath(str(path).partition("?")[0] if "://" in str(path) else str(path)).name.lower()
    packing = next((end for end in COMPRESSIONS if plain.endswith(end)), "")
    plain = plain.removesuffix(packing)
    found = next((FORMATS[end] for end in FORMATS if plain.endswith(end)), None)
    return found if not packing or found in _TEXT else None


def compression_of(path: object) -> str | None:
    """What a file of a text format is packed with; None: nothing."""
    plain = str(path).partition("?")[0] if "://" in str(path) else str(path)
    return next((kind for end, kind in COMPRESSIONS.items() if plain.lower().endswith(end)), None)


def _seekable(file: Any) -> Any:
    """A file that can be read at any place: the file itself, or a copy where its server gives no ranges."""
    try:
        file.seek(1)
        file.seek(0)
        return file
    except ValueError:  # it comes as a stream
        file.seek(0)
    import shutil
    import tempfile

    copy = tempfile.TemporaryFile()  # noqa: SIM115 - whoever reads it closes it; it has no name
    with file:
        shutil.copyfileobj(file, copy, 1 << 20)
    copy.seek(0)
    return copy
