"""Readers of the file formats: each yields Arrow tables of a file's wanted columns, in the file's order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from .broken_file import guard, unreadable
from .csv_file import read_csv
from .data_file import DataFile
from .json_lines import read_json
from .nested import flat_names, flatten

if TYPE_CHECKING:
    from .selection import Selection


_SMALL = 4 << 20
"""Bytes."""


def read_parquet(file: DataFile, selection: Selection, piece_rows: int) -> Iterator[tuple[int, Any]]:
    """Pieces of a Parquet file: of the wanted columns, of the row groups that may hold rows that are asked for."""
    import pyarrow.parquet as pq

    local = file.location.local is not None
    # Not pre-buffered on a disk: a row group of any size is read through small buffers, so memory stays bounded.
    # From far away each small read costs a journey, so the columns of one row group are fetched together.
    # Neither is worth its while for a small file.
    buffer = (1 << 20) if local and (file.size or _SMALL) >= _SMALL else 0
    with file.random() as opened, pq.ParquetFile(opened, pre_buffer=not local, buffer_size=buffer) as parquet:
        own, paths = _own(parquet.schema_arrow, file, flat=selection.query.flatten)
        names = selection.columns(own if file.columns is None else _declared(own, file), file)
        read = [paths[name] for name in names if name in paths] or list(paths.values())[:1]
        metadata = parquet.metadata
        groups = list(range(metadata.num_row_groups) if file.groups is None else file.groups)
        if selection.condition is not None:
            bounds = (_group_bounds(metadata, number, selection, file) for number in groups)
            groups = [number for number, one in zip(groups, bounds, strict=True) if selection.may_hold(*one)]
        starts = [1]
        for number in range(metadata.num_row_groups):
            starts.append(starts[-1] + metadata.row_group(number).num_rows)
        for run in _runs(groups, single=not local):
            row = starts[run[0]]
            size = min(piece_rows, 1 << 16)
            for batch in parquet.iter_batches(batch_size=size, row_groups=run, columns=read, use_threads=True):
                table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
                if file.renamed is not None:
                    table = table.rename_columns([file.renamed.get(name, name) for name in table.column_names])
                table = flatten(table) if selection.query.flatten else table
                yield row, _completed(table, names, file)
                row += len(batch)


def _own(schema: Any, file: DataFile, *, flat: bool) -> tuple[list[str], dict[str, str]]:
    """The file's columns by the names that the dataset gives them, and what each is called in the file."""
    own: list[str] = []
    paths: dict[str, str] = {}
    for field in schema:
        if file.renamed is not None and field.name not in file.renamed:
            continue  # it was dropped from the table
        name = field.name if file.renamed is None else file.renamed[field.name]
        for path in flat_names([field]) if flat else [field.name]:
            own.append(name + path[len(field.name) :])
            paths[own[-1]] = path
    return own, paths


def _declared(own: list[str], file: DataFile) -> list[str]:
    """The columns that a table's log declares, nested ones as the file has them."""
    declared, there = file.columns or {}, set(own)
    return [
        one
        for name in declared
        for one in ([name] if name in there else [n for n in own if n.startswith(f"{name}.")] or [name])
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


def _group_bounds(
    metadata: Any, number: int, selection: Selection, file: DataFile
) -> tuple[dict[str, Any], dict[str, str]]:
    """What a row group's statistics tell of the asked columns, and the kinds of these."""
    from .condition import EVERY
    from .convert import kind_of

    group = metadata.row_group(number)
    arrow = metadata.schema.to_arrow_schema()
    bounds: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    for position in range(group.num_columns):
        column = group.column(position)
        path = column.path_in_schema
        name = path if file.renamed is None else file.renamed.get(path)
        if name not in selection.literals or path not in arrow.names or not column.is_stats_set:
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
        kinds[name] = kind_of(arrow.field(path).type)
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
            raise unreadable(file, "it is of Feather's first version", "write it again: pandas' to_feather does")
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


READERS: dict[str, Callable[[DataFile, Selection, int], Iterator[tuple[int, Any]]]] = {
    "parquet": read_parquet,
    "arrow": read_arrow,
    "csv": read_csv,
    "jsonl": read_json,
}

__all__ = ["READERS", "guard"]
