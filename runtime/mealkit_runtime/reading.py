"""Readers of the file formats: each yields Arrow tables of a file's wanted columns, in the file's order."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import pyarrow as pa

from mealkit.errors import EmptyDataError, SchemaError, UnreadableDataError

if TYPE_CHECKING:
    from .schema import Schema

_BLOCK = 4 << 20
"""Bytes of CSV that are parsed at once; a row must fit."""

_JSON_ROWS = 20_000

_MAGIC = (
    (b"PAR1", "Parquet", ".parquet"),
    (b"\x1f\x8b", "gzip", ".gz"),
    (b"ARROW1", "Arrow", ""),
    (b"PK\x03\x04", "zip", ""),
)


@contextlib.contextmanager
def guard(path: Path) -> Iterator[None]:
    """What a library says of a broken file becomes an :class:`UnreadableDataError` that names the file."""
    try:
        yield
    except UnicodeDecodeError as error:
        hint = _hint(path)
        raise _unreadable(
            path, f"it is not UTF-8 (byte {error.start:,})", "write it as UTF-8" if hint == _AGAIN else hint
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _unreadable(path, f"its compressed data are cut or broken ({error})", _AGAIN) from None
    except pa.ArrowException as error:
        raise _unreadable(path, _first_line(error), _hint(path)) from None
    except OSError as error:
        if error.errno is None:  # Arrow's own "I/O" errors, of a page that does not decompress, say
            raise _unreadable(path, _first_line(error), _hint(path)) from None
        what = (error.strerror or str(error)).lower()
        hint = "let this user read it" if error.errno == 13 else "check the path and the disk"
        raise _unreadable(path, what, hint) from None


_AGAIN = "the file may be cut off: write or copy it again"


def _unreadable(path: Path, what: str, hint: str) -> UnreadableDataError:
    return UnreadableDataError(f"cannot read the file: {what}", where=str(path), hint=hint)


def _first_line(error: BaseException) -> str:
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return line if len(line) <= 200 else line[:200] + "…"


def _hint(path: Path) -> str:
    """What the first bytes say, if it is not what the name says."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        start = file.read(8)
        for magic, name, ending in _MAGIC:
            if start.startswith(magic) and not path.name.lower().endswith((ending, ".pq") if ending else ()):
                return f"its content is {name}, not what its name says: rename it" + (
                    f" to end in {ending}" if ending else ""
                )
    return _AGAIN


def read_parquet(path: Path, schema: Schema, piece_rows: int) -> Iterator[Any]:
    """Pieces of a Parquet file; only the wanted columns are read from the disk."""
    import pyarrow.parquet as pq

    # Not pre-buffered: a row group of any size is read through small buffers, so memory stays bounded.
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
        names = schema.wanted(file.schema_arrow.names, str(path))
        for batch in file.iter_batches(batch_size=min(piece_rows, 1 << 16), columns=names, use_threads=True):
            yield pa.Table.from_batches([batch]).replace_schema_metadata(None)


def read_csv(path: Path, schema: Schema, piece_rows: int) -> Iterator[Any]:
    """Pieces of a CSV file with a header line, every value as text; nothing between two commas is missing."""
    import pyarrow.csv as pc

    compressed = path.name.lower().endswith(".gz")
    with _text(path, newline="") as file:
        header = next(csv.reader(file), None)
    if header is None:
        raise EmptyDataError(
            "the file is empty", where=str(path), hint="it needs a header line with the columns' names"
        )
    _refuse_binary(path, "".join(header[:1]))
    names = schema.wanted(header, str(path))
    with pa.input_stream(str(path), compression="gzip" if compressed else None) as stream:
        reader = pc.open_csv(
            stream,
            read_options=pc.ReadOptions(block_size=_BLOCK),
            # A quoted line break must not end a row, not even where two blocks meet.
            parse_options=pc.ParseOptions(newlines_in_values=True),
            convert_options=pc.ConvertOptions(
                column_types={name: pa.string() for name in header},
                include_columns=names,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        with reader:
            for batch in reader:
                yield pa.Table.from_batches([batch])


def read_json(path: Path, schema: Schema, piece_rows: int) -> Iterator[Any]:
    """Pieces of a file with one JSON object a line; a key that a line lacks is missing there."""
    # Pieces do not follow piece_rows: whether a key counts as missing must not depend on the size of batches.
    declared = {column.name: column for column in schema.columns}
    rows: list[dict[str, Any]] = []
    first = 1
    seen: dict[str, None] = {}

    def table() -> Any:
        names = schema.wanted(list(seen), str(path))
        return pa.table({name: _values(rows, name, declared.get(name), path, first) for name in names})

    with _text(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            rows.append(_object(line, number, path))
            seen.update(dict.fromkeys(rows[-1]))
            if len(rows) >= _JSON_ROWS:
                yield table()
                first += len(rows)
                rows = []
    if rows:
        yield table()


def _object(line: str, number: int, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        _refuse_binary(path, line[:8])
        whole = number == 1 and line.lstrip()[:1] in ("[", "{")
        raise UnreadableDataError(
            f"line {number:,} is not JSON: {error}",
            where=f"{path}, line {number:,}",
            hint="write one JSON object a line (JSON lines), not one document" if whole else "mend the line",
        ) from None
    if not isinstance(value, dict):
        raise UnreadableDataError(
            f"line {number:,} is no JSON object",
            where=f"{path}, line {number:,}",
            hint="write one JSON object a line (JSON lines), not a list",
        )
    return value


def _values(rows: list[dict[str, Any]], name: str, column: Any, path: Path, first: int) -> Any:
    values = [row.get(name) for row in rows]
    try:
        return pa.chunked_array([pa.array(values)])
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        pass
    # The values are of several types. Numbers with and without a point go together; nothing else does.
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float}:
        return pa.chunked_array([pa.array([None if value is None else float(value) for value in values])])
    kind = "any" if column is None else column.kind
    good = _JSON_TYPES.get(kind, tuple(kinds)[:1])
    odd = next((i for i, value in enumerate(values) if value is not None and type(value) not in good), 0)
    wanted = "of another type than others" if kind == "any" else f"not {column.article}"
    raise SchemaError(
        f"the column {name!r} is {json.dumps(values[odd])[:40]}, which is {wanted}",
        where=f"{path}, row {first + odd:,}, column {name}",
        hint="write one type of value in a column",
    )


_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "datetime": (str,),
    "date": (str,),
    "bool": (bool,),
    "int": (int, float),
    "float": (int, float),
}


def _text(path: Path, newline: str | None = None) -> TextIO:
    """A file as text: UTF-8, with or without a byte-order mark, unpacked if it is compressed."""
    if path.name.lower().endswith(".gz"):
        return io.TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8-sig", newline=newline)
    return path.open(encoding="utf-8-sig", newline=newline)


def _refuse_binary(path: Path, text: str) -> None:
    if text.startswith(("PAR1", "ARROW1", "PK\x03\x04")) or "\0" in text:
        raise _unreadable(path, "it is no text", _hint(path))


READERS: dict[str, Callable[[Path, Schema, int], Iterator[Any]]] = {
    "parquet": read_parquet,
    "csv": read_csv,
    "jsonl": read_json,
}
