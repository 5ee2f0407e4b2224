"""The edge to datasets: finds the files of a URI and reads them piece by piece, or whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mealkit.errors import EmptyDataError, SchemaError, UnreadableDataError

from .data_file import DataFile, format_of
from .delta import DeltaVersion, is_table, open_table, split_uri
from .file_system import redact, resolve
from .fingerprint import fingerprint
from .listing import list_files
from .query import EVERYTHING, Query

if TYPE_CHECKING:
    import pandas as pd

    from .bad_row import BadRows
    from .schema import Schema


@dataclass(frozen=True)
class Source:
    """A dataset's files, and which part of them is read.

    Attributes:
        uri: As it was given, without what may be a secret.
        files: In the order in which they are read: sorted by path.
        query: The part.
        delta: The version, if it is a Delta table.
    """

    uri: str
    files: tuple[DataFile, ...]
    query: Query = EVERYTHING
    delta: DeltaVersion | None = None

    @property
    def partitions(self) -> tuple[str, ...]:
        """The columns that stand in the files' paths."""
        return tuple(dict.fromkeys(name for file in self.files for name in file.partition))

    @property
    def facts(self) -> dict[str, object]:
        """What records tell of the source beside its fingerprint."""
        facts: dict[str, object] = {"uri": self.uri, "files": len(self.files)}
        if self.delta is not None:
            facts["version"] = self.delta.version
        if asked := self.query.to_json():
            facts["query"] = asked
        return facts


def locate(uri: str, query: Query = EVERYTHING) -> Source:
    """The files of a file, folder (with its subfolders), glob or Delta table; reads no data yet.

    Args:
        uri: A local path, ``file://``, ``s3://``, ``gs://``, ``az://``, ``abfss://``, ``http(s)://``, or another scheme
            that fsspec knows. A folder with ``_delta_log``, or ``delta:URI``, is a Delta table; ``@v3`` or ``@TIME``
            behind it names a version.
        query: The part that will be read.

    Raises:
        UnreadableDataError: there is no such file, or none of a known format.
        EmptyDataError: the folder is empty, or the glob matches nothing.
        SettingsError: the URI is of a scheme that cannot be read, or holds credentials.
        UnreachableError: the storage does not answer.
    """
    plain, version, explicit = split_uri(uri)
    location = resolve(plain)
    table = explicit or (format_of(location.path) is None and is_table(location))
    if version is not None and not table:
        location = resolve(uri)  # a name that only looks like it
    if table:
        files, facts = open_table(location, version)
        return Source(redact(uri), files, query, facts)
    return Source(location.uri, list_files(location), query)


def pieces(source: Source, schema: Schema, piece_rows: int, bad_rows: BadRows | None = None) -> Iterator[Any]:
    """Conformed Arrow tables of what is asked of a dataset, in order; their sizes are the format's affair.

    Args:
        source: The dataset.
        schema: What it must hold.
        piece_rows: About so many rows at once.
        bad_rows: The ledger of rows that the schema refuses; None: the first one is an error.

    Raises:
        SchemaError: a column or value is not what the schema says.
        SettingsError: the query does not fit the data.
        UnreadableDataError: a file is truncated, or not of its format.
        UnreachableError: the storage broke off.
    """
    from .sieve import Sieve

    sieve = Sieve(schema, bad_rows)
    for file, row, table, text in chosen(source, schema, piece_rows):
        yield sieve.sift(table, file.name, row, text=text)


def chosen(source: Source, schema: Schema, piece_rows: int) -> Iterator[tuple[DataFile, Any, Any, bool]]:
    """What :func:`pieces` conforms: ``(file, number of the first row in it, table, whether the format has no types)``.

    Where rows were left out, the second is an array of the rows' numbers.
    """
    from . import reading
    from .partition import Partitions
    from .selection import Selection

    total = None
    if isinstance(source.query.sample, int):
        total = _count(source, schema, piece_rows)
    selection = Selection(source.query, schema, total)
    partitions = Partitions(source, schema)
    for file in source.files:
        if selection.done():
            return
        if file.groups == () or not selection.may_hold(*partitions.bounds(file)):
            continue
        kind = str(file.format)
        text = kind == "csv"
        with reading.guard(file):
            before = _state(file)
            for row, table in reading.READERS[kind](file, selection, piece_rows):
                table = partitions.add(table, file)
                table, numbers = selection.choose(table, file, row, text=text)
                if len(table) or numbers is None:
                    yield file, row if numbers is None else numbers, selection.project(table), text
                if selection.done():
                    return
            _need_same(file, before)


def _state(file: DataFile) -> tuple[int, ...] | None:
    """What changes when somebody writes to a file; None: it is far away, where a file is replaced as a whole."""
    path = file.location.local
    if path is None:
        return None
    found = path.stat()
    return (found.st_size, found.st_mtime_ns, found.st_ino)


def _need_same(file: DataFile, before: tuple[int, ...] | None) -> None:
    """The fingerprint, and what was read first, are of the same file as what was read last."""
    if before is not None and (_state(file) != before or file.size not in (None, before[0])):
        raise UnreadableDataError(
            "the file was changed while it was read",
            where=file.name,
            hint="wait for whoever writes it, or read a copy; then run the same command again",
        )


def _count(source: Source, schema: Schema, piece_rows: int) -> int:
    """How many rows there are to sample from."""
    from .schema import Schema

    if source.query.condition is None and (known := _rows(source.files)) is not None:
        return known
    asked = tuple(column for column in schema.columns if column.name in source.query.asked)
    bare = replace(source, query=replace(source.query.unsampled(), columns=None))
    return sum(len(table) for _, _, table, _ in chosen(bare, Schema(asked, open=False), piece_rows))


def read_table(source: Source, schema: Schema, bad_rows: BadRows | None = None) -> tuple[Any, Schema]:
    """A whole dataset as one Arrow table, and its schema with the types that were found of undeclared columns.

    Raises:
        BadRowsError: more rows are bad than ``bad_rows`` allows.
        EmptyDataError: there is no row.
        SchemaError: a column or value is not what the schema says.
        UnreadableDataError: a file is truncated, or not of its format.
    """
    import pyarrow as pa

    from .convert import infer
    from .schema import Schema, describe_columns, recorded_column

    tables = list(pieces(source, schema, 1 << 20, bad_rows))
    if bad_rows is not None:
        bad_rows.settle(sum(map(len, tables)), source.uri)
    if not sum(map(len, tables)):
        raise empty(source)
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise SchemaError(
            f"the files do not agree on a column's type: {error}",
            where=source.uri,
            hint="write the column alike in every file, or declare it in the recipe's row schema",
        ) from None
    declared = {column.name for column in schema.columns if column.kind != "any"}
    if any(file.format == "csv" for file in source.files):
        arrays = {name: table[name] if name in declared else infer(table[name]) for name in table.column_names}
        table = pa.table(arrays)
    table = table.combine_chunks()
    found = describe_columns(table)
    rest = tuple(recorded_column(name, facts, required=True) for name, facts in found.items() if name not in declared)
    columns = (*(column for column in schema.columns if column.name in declared), *rest)
    return table, Schema(columns, schema.open, schema.unique)


def read_all(source: Source, schema: Schema) -> tuple[pd.DataFrame, Schema]:
    """A whole dataset as a pandas frame with index 0…n-1; otherwise as :func:`read_table`."""
    from .schema import to_frame

    table, found = read_table(source, schema)
    return to_frame(table, found), found


def row_count(source: Source) -> int | None:
    """How many rows will be read, where the files tell that without being read (Parquet, Delta); None: not known."""
    query = source.query
    if query.condition is not None or isinstance(query.sample, float):
        return None
    total = _rows(source.files)
    limits = [number for number in (total, query.sample, query.limit) if isinstance(number, int)]
    return None if total is None else min(limits)


def _rows(files: tuple[DataFile, ...]) -> int | None:
    if all(file.rows is not None for file in files):
        return sum(file.rows or 0 for file in files)
    far = any(file.location.local is None for file in files)
    if len(files) > (8 if far else 100) or any(file.format != "parquet" for file in files):
        return None
    import pyarrow.parquet as pq

    try:
        total = 0
        for file in files:
            with file.random() as opened, pq.ParquetFile(opened) as parquet:
                total += int(parquet.metadata.num_rows)
        return total
    except (OSError, ValueError):
        return None  # whoever reads the file will tell what is wrong with it


def empty(source: Source) -> EmptyDataError:
    """The error of a dataset of which no row is read."""
    if source.query.every_row:
        return EmptyDataError("the dataset has no rows", where=source.uri, hint="name a dataset that has rows")
    return EmptyDataError(
        "the query leaves no rows of the dataset", where=source.uri, hint="widen --where, the time window or the sample"
    )


__all__ = [
    "Source",
    "chosen",
    "empty",
    "fingerprint",
    "locate",
    "pieces",
    "read_all",
    "read_table",
    "row_count",
]
