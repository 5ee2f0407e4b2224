"""Reads CSV files: Arrow parses them by blocks; where it cannot, they are read again to tell which row is wrong."""

from __future__ import annotations

import contextlib
import csv
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mealkit.errors import UnreadableDataError

from .broken_file import UTF8, hint_of, refuse_binary, unreadable
from .data_file import DataFile, compression_of

if TYPE_CHECKING:
    from .selection import Selection

_BLOCK = 4 << 20
"""Bytes that are parsed at once; a row must fit."""

_SIGNS = ";\t|"
"""What stands between values in files whose header has no comma."""

_CLOSE = 'close the quote, or double those within a text: "a ""word"""'
_OPEN = "a quote is opened and not closed: all that follows it became one value"


def read_csv(file: DataFile, selection: Selection, piece_rows: int) -> Iterator[tuple[int, Any]]:
    """Pieces of a CSV file with a header line, every value as text; nothing between two commas is missing.

    A file without a header has no rows: Spark writes such for a part without any.
    """
    import pyarrow.csv as pc

    header, sign, more = _header(file)
    if not header:
        return
    refuse_binary(file, header[0])
    if _is_foreign(header):
        raise unreadable(file, "its header is not UTF-8", hint_of(file, UTF8))
    names = selection.columns(header, file)
    if not more:
        return
    read = [*names, *header[-1:]] if header[-1] not in names else names  # see _refuse_open_end
    row = 1
    last = None
    with _stream(file) as stream:
        try:
            reader = pc.open_csv(
                stream,
                read_options=pc.ReadOptions(block_size=_BLOCK),
                # A quoted line break must not end a row, not even where two blocks meet.
                parse_options=pc.ParseOptions(delimiter=sign, newlines_in_values=True),
                convert_options=pc.ConvertOptions(
                    column_types={name: pa.string() for name in header},
                    include_columns=read,
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
            with reader:
                for batch in reader:
                    table = pa.Table.from_batches([batch])
                    last = table[header[-1]][-1:] if len(table) else last
                    yield row, table.select(names)
                    row += len(batch)
        except pa.ArrowInvalid:
            if (wrong := _wrong_row(file, sign, len(header))) is not None:
                raise wrong from None
            raise
    if last is not None:
        _refuse_open_end(file, sign, last.to_pylist()[0], row - 1)


def _header(file: DataFile) -> tuple[list[str], str, bool]:
    """The columns' names, the sign between them, and whether anything follows."""
    lines: list[str] = []

    def remembered(text: Iterable[str]) -> Iterator[str]:
        for line in text:
            lines.append(line)
            yield line

    with file.text(newline="", errors="surrogateescape") as text, _any_length():
        header = _first(csv.reader(remembered(text)))
        more = next(iter(text), None) is not None
        for sign in _SIGNS if len(header) == 1 else "":
            if len(again := _first(csv.reader(lines, delimiter=sign))) > 1:
                return again, sign, more
    return header, ",", more


def _first(rows: Iterable[list[str]]) -> list[str]:
    """The first row that is no empty line; Arrow passes over those."""
    return next(filter(None, rows), [])


def _stream(file: DataFile) -> contextlib.AbstractContextManager[Any]:
    """The bytes as Arrow reads them fastest."""
    path, packing = file.location.local, compression_of(file.location.path)
    if path is not None and packing != "xz":
        stream: contextlib.AbstractContextManager[Any] = pa.input_stream(str(path), compression=packing)
        return stream
    return file.bytes()


def _wrong_row(file: DataFile, sign: str, columns: int) -> UnreadableDataError | None:
    """What is wrong with the first row that Arrow could not take; None: nothing that is known here.

    Such a row is no bad row that could be skipped: where it ends, and so which rows follow, is a guess.
    """
    size = line = 0

    def measured(text: Iterable[str]) -> Iterator[str]:
        nonlocal size
        for line in text:
            size += len(line)
            yield line

    with file.text(newline="", errors="surrogateescape") as text, _any_length():
        reader = csv.reader(measured(text), delimiter=sign)
        for row, cells in enumerate(filter(None, reader)):
            where = f"{file.name}, row {row:,} (line {reader.line_num:,})"
            if _is_foreign(cells):
                return _error(where, "it is not UTF-8", UTF8)
            if size > _BLOCK and reader.line_num - line > 1:
                return _error(where, _OPEN, _CLOSE)
            if size > _BLOCK:
                what = f"the row is longer than {_BLOCK >> 20} MiB"
                return _error(where, what, "shorten its values, or write the dataset as Parquet")
            if len(cells) != columns:
                what = f"the row has {len(cells):,} value{'s' * (len(cells) != 1)}, and the header {columns:,}"
                return _error(where, what, "mend the row: a comma or a quote may be missing, or one too many")
            size, line = 0, reader.line_num
    return None


def _error(where: str, what: str, hint: str) -> UnreadableDataError:
    return UnreadableDataError(f"cannot read the file: {what}", where=where, hint=hint)


def _is_foreign(cells: list[str]) -> bool:
    """Whether bytes were no UTF-8, which Python then holds as lone surrogates."""
    return any("\udc80" <= char <= "\udcff" for cell in cells if not cell.isascii() for char in cell)


def _refuse_open_end(file: DataFile, sign: str, last: str | None, row: int) -> None:
    """Arrow takes a quote that is never closed for closed at the end of the file: rows would be lost in a value.

    Such a value is the last one of all, and holds line breaks. Whether a row that is put behind it stays one tells.
    """
    if last is None or not ("\n" in last or "\r" in last):
        return
    with file.text(newline="", errors="surrogateescape") as text, _any_length():
        rows = csv.reader(itertools.chain(text, ["\n", "end"]), delimiter=sign)
        if deque(rows, maxlen=1)[0] != ["end"]:
            raise _error(f"{file.name}, row {row:,}", _OPEN, _CLOSE)


@contextlib.contextmanager
def _any_length() -> Iterator[None]:
    """Python's reader takes values of any length in the block."""
    before = csv.field_size_limit(1 << 30)
    try:
        yield
    finally:
        csv.field_size_limit(before)
