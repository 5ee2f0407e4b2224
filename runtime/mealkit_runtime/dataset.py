"""The edge to datasets: finds the files of a URI and reads them piece by piece, or whole."""

from __future__ import annotations

import difflib
import glob
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from mealkit.errors import EmptyDataError, SchemaError, SettingsError, UnreadableDataError

if TYPE_CHECKING:
    import pandas as pd

    from .schema import Schema

FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".jsonl.gz": "jsonl",
    ".ndjson.gz": "jsonl",
    ".json.gz": "jsonl",
}
"""The format that each ending stands for."""

KNOWN = "known endings: .parquet, .csv, .jsonl (.csv.gz and .jsonl.gz too)"

_WHOLE = 16 << 20
_EDGE = 1 << 20
_SAMPLES, _SAMPLE = 14, 64 << 10


@dataclass(frozen=True)
class Source:
    """A dataset's files.

    Attributes:
        uri: As it was given.
        files: In the order in which they are read: sorted by path.
    """

    uri: str
    files: tuple[Path, ...]


def format_of(path: Path) -> str | None:
    """The format that a file's ending stands for; None: none."""
    name = path.name.lower()
    return next((FORMATS[end] for end in sorted(FORMATS, key=len, reverse=True) if name.endswith(end)), None)


def locate(uri: str) -> Source:
    """The files of a file, folder (with its subfolders) or glob; names that begin with ``.`` or ``_`` are left out.

    Raises:
        UnreadableDataError: there is no such file, or none of a known format.
        EmptyDataError: the folder is empty, or the glob matches nothing.
        SettingsError: the URI is of a scheme that cannot be read.
    """
    path = local_path(uri, "input")
    try:
        if path.is_dir():
            return Source(uri, _in_folder(path))
        if path.exists():
            if format_of(path) is None:
                raise UnreadableDataError("the file's name tells no format", where=str(path), hint=KNOWN)
            return Source(uri, (path,))
    except PermissionError as error:
        raise _denied(error, path) from None
    if any(mark in str(path) for mark in "*?["):
        matched = sorted(Path(name) for name in glob.glob(str(path), recursive=True))  # noqa: PTH207 (any pattern)
        files = tuple(name for name in matched if name.is_file() and format_of(name) is not None)
        if not files:
            raise EmptyDataError("no data file matches the pattern", where=uri, hint=f"check it; {KNOWN}")
        return Source(uri, files)
    near = []
    if path.parent.is_dir():
        near = difflib.get_close_matches(path.name, [item.name for item in path.parent.iterdir()], n=1)
    raise UnreadableDataError(
        "there is no such file or folder",
        where=uri,
        hint=f"did you mean {path.with_name(near[0])}?" if near else "check the path; in a container, mount it",
    )


def local_path(uri: str, setting: str) -> Path:
    """The path that a URI means.

    Raises:
        SettingsError: it does not mean a local path.
    """
    scheme, separator, _ = uri.partition("://")
    if not separator:
        return Path(uri)
    if scheme.lower() != "file":
        raise SettingsError(
            f"{scheme}:// cannot be read or written yet", where=f"{setting} {uri}", hint="use a local path or file://"
        )
    return Path(unquote(urlsplit(uri).path))


def _in_folder(folder: Path) -> tuple[Path, ...]:
    seen = [
        path
        for path in sorted(folder.rglob("*"))
        if not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts) and path.is_file()
    ]
    files = tuple(path for path in seen if format_of(path) is not None)
    if files:
        return files
    if seen:
        raise UnreadableDataError(
            f"the folder has no file of a known format; it has {seen[0].name}", where=str(folder), hint=KNOWN
        )
    raise EmptyDataError("the folder has no data files", where=str(folder), hint="name the folder that has the data")


def _denied(error: OSError, path: Path) -> UnreadableDataError:
    return UnreadableDataError(
        f"cannot read it: {(error.strerror or str(error)).lower()}",
        where=str(error.filename or path),
        hint="let this user read it (a container's user is often not the one who wrote the file)",
    )


def pieces(source: Source, schema: Schema, piece_rows: int) -> Iterator[Any]:
    """Conformed Arrow tables of a dataset, in order; their sizes are the format's affair.

    Raises:
        SchemaError: a column or value is not what the schema says.
        UnreadableDataError: a file is truncated, or not of its format.
    """
    from . import reading
    from .schema import conform

    for path in source.files:
        kind = format_of(path)
        row = 1
        with reading.guard(path):
            for table in reading.READERS[str(kind)](path, schema, piece_rows):
                yield conform(table, schema, str(path), row, text=kind == "csv")
                row += len(table)


def read_table(source: Source, schema: Schema) -> tuple[Any, Schema]:
    """A whole dataset as one Arrow table, and its schema with the types that were found of undeclared columns.

    Raises:
        EmptyDataError: there is no row.
        SchemaError: a column or value is not what the schema says.
        UnreadableDataError: a file is truncated, or not of its format.
    """
    import pyarrow as pa

    from .convert import infer
    from .schema import Schema, describe_columns, recorded_column

    tables = list(pieces(source, schema, 1 << 20))
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
    if any(format_of(path) == "csv" for path in source.files):
        arrays = {name: table[name] if name in declared else infer(table[name]) for name in table.column_names}
        table = pa.table(arrays)
    table = table.combine_chunks()
    found = describe_columns(table)
    rest = tuple(recorded_column(name, facts, required=True) for name, facts in found.items() if name not in declared)
    return table, Schema((*(c for c in schema.columns if c.name in declared), *rest), schema.open)


def read_all(source: Source, schema: Schema) -> tuple[pd.DataFrame, Schema]:
    """A whole dataset as a pandas frame with index 0…n-1; otherwise as :func:`read_table`."""
    from .schema import to_frame

    table, found = read_table(source, schema)
    return to_frame(table, found), found


def row_count(source: Source) -> int | None:
    """How many rows a dataset has, where its files tell that without being read (Parquet)."""
    if len(source.files) > 100 or any(format_of(path) != "parquet" for path in source.files):
        return None
    import pyarrow.parquet as pq

    try:
        return sum(int(pq.read_metadata(path).num_rows) for path in source.files)
    except (OSError, ValueError):
        return None  # whoever reads the file will tell what is wrong with it


def empty(source: Source) -> EmptyDataError:
    """The error of a dataset without rows."""
    return EmptyDataError("the dataset has no rows", where=source.uri, hint="name a dataset that has rows")


def fingerprint(source: Source, *, whole: bool) -> str:
    """What tells a dataset from another: a digest of its files' bytes in order, whatever their names and times.

    ``whole`` reads every byte and gives ``sha256:HEX``. Otherwise, of files over 16 MiB only the size, the first and
    the last MiB (where Parquet keeps its footer) and 14 samples between count, and the result is ``sampled:HEX``: cheap
    enough for a dataset of any size; two datasets that differ in a few rows may look alike.
    """
    total = hashlib.sha256()
    for path in source.files:
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                if whole or size <= _WHOLE:
                    digest = hashlib.file_digest(file, "sha256")
                else:
                    digest = hashlib.sha256(file.read(_EDGE))
                    for number in range(1, _SAMPLES + 1):
                        file.seek(size * number // (_SAMPLES + 1))
                        digest.update(file.read(_SAMPLE))
                    file.seek(size - _EDGE)
                    digest.update(file.read(_EDGE))
        except OSError as error:
            raise _denied(error, path) from None
        total.update(f"{size} {digest.hexdigest()}\n".encode())
    return f"{'sha256' if whole else 'sampled'}:{total.hexdigest()}"
