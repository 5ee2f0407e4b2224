"""Readers of the file formats: each yields Arrow tables of a file's wanted columns, in the file's order."""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mealkit.errors import EmptyDataError, MealkitError, SchemaError, UnreadableDataError

from .convert import MixedType, json_value
from .data_file import DataFile, compression_of
from .file_system import trouble
from .nested import flat_names, flatten

if TYPE_CHECKING:
    from .selection import Selection

_BLOCK = 4 << 20
"""Bytes of CSV that are parsed at once; a row must fit."""

_JSON_ROWS = 20_000

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
        hint = _hint(file)
        raise _unreadable(
            file, f"it is not UTF-8 (byte {error.start:,})", "write it as UTF-8" if hint == _AGAIN else hint
        ) from None
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise _unreadable(file, f"its compressed data are cut or broken ({error})", _AGAIN) from None
    except pa.ArrowException as error:
        raise _lost(file, error) or _unreadable(file, _first_line(error), _hint(file)) from None
    except OSError as error:
        if (found := _lost(file, error)) is not None:
            raise found from None
        if error.errno is None:  # Arrow's own "I/O" errors, of a page that does not decompress, say
            raise _unreadable(file, _first_line(error), _hint(file)) from None
        what = (error.strerror or str(error)).lower()
        hint = "let this user read it" if error.errno == 13 else "check the path and the disk"
        raise _unreadable(file, what, hint) from None
    except Exception as error:
        # Libraries of far file systems have errors of their own.
        if isinstance(error, MealkitError) or (found := _lost(file, error)) is None:
            raise
        raise found from None


def _lost(file: DataFile, error: Exception) -> MealkitError | None:
    return None if file.location.local is not None else trouble(error, file.name)


_AGAIN = "the file may be cut off: write or copy it again"


def _unreadable(file: DataFile, what: str, hint: str) -> UnreadableDataError:
    return UnreadableDataError(f"cannot read the file: {what}", where=file.name, hint=hint)


def _first_line(error: BaseException) -> str:
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return line if len(line) <= 200 else line[:200] + "…"


def _hint(file: DataFile) -> str:
    """What the first bytes say, if it is not what the name says."""
    with contextlib.suppress(Exception), file.raw() as raw:
        start = raw.read(8)
        name = file.location.path.partition("?")[0].lower()
        for magic, what, endings in _MAGIC:
            if start.startswith(magic) and not name.endswith(endings or "/"):
                return f"its content is {what}, not what its name says: rename it" + (
                    f" to end in {endings[0]}" if endings else ""
                )
    return _AGAIN


def read_parquet(file: DataFile, selection: Selection, piece_rows: int) -> Iterator[tuple[int, Any]]:
    """Pieces of a Parquet file: of the wanted columns, of the row groups that may hold rows that are asked for."""
    import pyarrow.parquet as pq

    local = file.location.local is not None
    # Not pre-buffered on a disk: a row group of any size is read through small buffers, so memory stays bounded.
    # From far away each small read costs a journey, so the columns of one row group are fetched together.
    buffer = (1 << 20) if local else 0
    with file.random() as opened, pq.ParquetFile(opened, pre_buffer=not local, buffer_size=buffer) as parquet:
        schema = parquet.schema_arrow
        own = flat_names(schema) if selection.query.flatten else schema.names
        names = selection.columns(own if file.columns is None else _declared(own, file), file)
        present = set(own)
        read = [name for name in names if name in present] or own[:1]
        metadata = parquet.metadata
        groups = list(range(metadata.num_row_groups) if file.groups is None else file.groups)
        if selection.condition is not None:
            groups = [number for number in groups if selection.may_hold(*_group_bounds(metadata, number, selection))]
        starts = [1]
        for number in range(metadata.num_row_groups):
            starts.append(starts[-1] + metadata.row_group(number).num_rows)
        for run in _runs(groups, single=not local):
            row = starts[run[0]]
            size = min(piece_rows, 1 << 16)
            for batch in parquet.iter_batches(batch_size=size, row_groups=run, columns=read, use_threads=True):
                table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
                table = flatten(table) if selection.query.flatten else table
                yield row, _completed(table, names, file)
                row += len(batch)


def _declared(own: list[str], file: DataFile) -> list[str]:
    """The columns that a table's log declares, nested ones as the file has them."""
    declared = file.columns or {}
    return [
        one
        for name in declared
        for one in ([name] if name in own else [n for n in own if n.startswith(f"{name}.")] or [name])
    ]


def _completed(table: Any, names: list[str], file: DataFile) -> Any:
    """A table with the columns that were added to the dataset after the file was written: missing values."""
    from .convert import ARROW

    for name in set(names).difference(table.column_names):
        table = table.append_column(name, pa.nulls(len(table), ARROW.get((file.columns or {})[name], pa.null())))
    return table.select(names)


def _runs(groups: list[int], *, single: bool) -> list[list[int]]:
    """Row groups that stand together, to be read in one go; with ``single``, each alone."""
    runs: list[list[int]] = []
    for number in groups:
        if runs and not single and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _group_bounds(metadata: Any, number: int, selection: Selection) -> tuple[dict[str, Any], dict[str, str]]:
    """What a row group's statistics tell of the asked columns, and the kinds of these."""
    from .condition import EVERY
    from .convert import kind_of

    group = metadata.row_group(number)
    arrow = metadata.schema.to_arrow_schema()
    bounds: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    for position in range(group.num_columns):
        column = group.column(position)
        name = column.path_in_schema
        if name not in selection.literals or name not in arrow.names or not column.is_stats_set:
            continue
        facts = column.statistics
        try:
            least, greatest = (facts.min, facts.max) if facts.has_min_max else (None, None)
        except (ValueError, OverflowError, NotImplementedError, pa.ArrowException):
            least = greatest = None
        missing = facts.null_count if facts.has_null_count else None
        if missing is not None and missing == group.num_rows:
            missing = EVERY
        bounds[name] = (least, greatest, missing)
        kinds[name] = kind_of(arrow.field(name).type)
    return bounds, kinds


def read_arrow(file: DataFile, selection: Selection, piece_rows: int) -> Iterator[tuple[int, Any]]:
    """Pieces of an Arrow IPC file or stream; the record batches are as large as whoever wrote them made them."""
    import pyarrow.ipc as ipc

    path = file.location.local
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(pa.memory_map(str(path)) if path is not None else file.random())
        start = bytes(source.read(6))
        source.seek(0)
        if start.startswith(b"FEA1"):
            raise _unreadable(file, "it is of Feather's first version", "write it again: pandas' to_feather does")
        streamed = not start.startswith(b"ARROW1")
        opened = ipc.open_stream(source) if streamed else ipc.open_file(source)
        present = opened.schema.names
        names = selection.columns(flat_names(opened.schema) if selection.query.flatten else present, file)
        tops = {name for name in present if name in names or any(one.startswith(f"{name}.") for one in names)}
        if not streamed and len(tops) < len(present):
            wanted = ipc.IpcReadOptions(included_fields=[i for i, name in enumerate(present) if name in tops])
            source.seek(0)
            opened = ipc.open_file(source, options=wanted)
        row = 1
        for batch in opened if streamed else map(opened.get_batch, range(opened.num_record_batches)):
            table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
            table = flatten(table) if selection.query.flatten else table
            table = table.select(names)
            for begin in range(0, len(table), piece_rows):
                yield row + begin, table.slice(begin, piece_rows)
            row += len(table)


def read_csv(file: DataFile, selection: Selection, piece_rows: int) -> Iterator[tuple[int, Any]]:
    """Pieces of a CSV file with a header line, every value as text; nothing between two commas is missing."""
    import pyarrow.csv as pc

    with file.text(newline="") as text:
        header = next(csv.reader(text), None)
    if header is None:
        raise EmptyDataError(
            "the file is empty", where=file.name, hint="it needs a header line with the columns' names"
        )
    _refuse_binary(file, "".join(header[:1]))
    names = selection.columns(header, file)
    row = 1
    with _csv_stream(file) as stream:
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
                yield row, pa.Table.from_batches([batch])
                row += len(batch)


def _csv_stream(file: DataFile) -> contextlib.AbstractContextManager[Any]:
    """The bytes as Arrow reads them fastest."""
    path, packing = file.location.local, compression_of(file.location.path)
    if path is not None and packing != "xz":
        stream: contextlib.AbstractContextManager[Any] = pa.input_stream(str(path), compression=packing)
        return stream
    return file.bytes()


def read_json(file: DataFile, selection: Selection, piece_rows: int) -> Iterator[tuple[int, Any]]:
    """Pieces of a file with one JSON object a line; a key that a line lacks is missing there."""
    # Pieces do not follow piece_rows: whether a key counts as missing must not depend on the size of batches.
    declared = {column.name: column for column in selection.schema.columns}
    rows: list[dict[str, Any]] = []
    first = 1
    seen: dict[str, None] = {}

    def table() -> Any:
        if selection.query.flatten:
            found = flatten(
                pa.table({name: _values(rows, name, declared.get(name), file.name, first) for name in seen})
            )
            return found.select(selection.columns(found.column_names, file))
        names = selection.columns(list(seen), file)
        return pa.table({name: _values(rows, name, declared.get(name), file.name, first) for name in names})

    with file.text() as text:
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            rows.append(_object(line, number, file))
            seen.update(dict.fromkeys(rows[-1]))
            if len(rows) >= _JSON_ROWS:
                yield first, table()
                first += len(rows)
                rows = []
    if rows:
        yield first, table()


def _object(line: str, number: int, file: DataFile) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        _refuse_binary(file, line[:8])
        whole = number == 1 and line.lstrip()[:1] in ("[", "{")
        raise UnreadableDataError(
            f"line {number:,} is not JSON: {error}",
            where=f"{file.name}, line {number:,}",
            hint="write one JSON object a line (JSON lines), not one document" if whole else "mend the line",
        ) from None
    if not isinstance(value, dict):
        raise UnreadableDataError(
            f"line {number:,} is no JSON object",
            where=f"{file.name}, line {number:,}",
            hint="write one JSON object a line (JSON lines), not a list",
        )
    return value


def _values(rows: list[dict[str, Any]], name: str, column: Any, path: str, first: int) -> Any:
    default = None if column is None or column.required else json_value(column.default)
    values = [row.get(name, default) for row in rows]
    with contextlib.suppress(pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        found = pa.chunked_array([pa.array(values)])
        # Whole numbers must not become floats because others are some.
        if (
            column is None
            or column.kind != "int"
            or not pa.types.is_floating(found.type)
            or int not in map(type, values)
        ):
            return found
    # The values are of several types. Numbers with and without a point go together; nothing else does.
    if column is not None and column.kind != "any":
        texts = pa.array([None if value is None else json.dumps(value) for value in values], pa.string())
        return pa.chunked_array([pa.ExtensionArray.from_storage(MixedType(), texts)])
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float}:
        return pa.chunked_array([pa.array([None if value is None else float(value) for value in values])])
    good = next(type(value) for value in values if value is not None)
    odd = next((i for i, value in enumerate(values) if value is not None and type(value) is not good), 0)
    raise SchemaError(
        f"the column {name!r} is {json.dumps(values[odd])[:40]}, which is of another type than others",
        where=f"{path}, row {first + odd:,}, column {name}",
        hint="write one type of value in a column",
    )


def _refuse_binary(file: DataFile, text: str) -> None:
    if text.startswith(("PAR1", "ARROW1", "PK\x03\x04")) or "\0" in text:
        raise _unreadable(file, "it is no text", _hint(file))


READERS: dict[str, Callable[[DataFile, Selection, int], Iterator[tuple[int, Any]]]] = {
    "parquet": read_parquet,
    "arrow": read_arrow,
    "csv": read_csv,
    "jsonl": read_json,
}
