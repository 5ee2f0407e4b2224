"""The first rows of a dataset, read without reading the rest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mealkit.errors import EmptyDataError


@dataclass(frozen=True)
class PreviewColumn:
    """A column of a preview.

    Attributes:
        name: Its name.
        type: The kind that a row schema would declare, or for what it cannot declare, Arrow's type.
        missing: How many of the shown rows have no value.
    """

    name: str
    type: str
    missing: int


@dataclass(frozen=True)
class Preview:
    """The first rows.

    Attributes:
        uri: As it was given.
        files: How many files the dataset has.
        total: How many rows, where the files tell that without being read.
        columns: In the dataset's order.
        rows: The values, missing ones as None.
    """

    uri: str
    files: int
    total: int | None
    columns: tuple[PreviewColumn, ...]
    rows: tuple[tuple[Any, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """The preview as plain values; times and others that JSON has not are texts."""
        names = [column.name for column in self.columns]
        return {
            "uri": self.uri,
            "files": self.files,
            "total": self.total,
            "columns": [
                {"name": column.name, "type": column.type, "missing": column.missing} for column in self.columns
            ],
            "rows": [dict(zip(names, map(_plain, row), strict=True)) for row in self.rows],
        }


def preview(tables: Iterable[Any], *, uri: str, files: int, total: int | None, text: bool, rows: int) -> Preview:
    """The first ``rows`` rows of Arrow tables that follow each other; no further table is asked for.

    ``text`` means that values of the format are texts (CSV): the first piece tells what they can be read as.

    Raises:
        EmptyDataError: there is no row.
    """
    from .profile.sample import concat

    taken: list[Any] = []
    kinds: dict[str, str] = {}
    left = rows
    for table in tables:
        if text and len(table):
            table, kinds = _read(table, kinds)
        taken.append(table.slice(0, left))
        left -= len(taken[-1])
        if left <= 0:
            break
    if left == rows:
        raise EmptyDataError(
            "the dataset has no rows", where=uri, hint="name a dataset that has rows, or ask for others"
        )
    table = concat([one for one in taken if len(one)])
    columns = tuple(
        PreviewColumn(name, kinds.get(name) or _type(table[name].type), _missing(table[name]))
        for name in table.column_names
    )
    lists = [_values(table[name]) for name in table.column_names]
    return Preview(uri, files, total, columns, tuple(zip(*lists, strict=True)))


def _read(table: Any, kinds: dict[str, str]) -> tuple[Any, dict[str, str]]:
    """Columns of texts in the kind that all of the first piece can be read as."""
    import pyarrow as pa

    from .convert import Unconvertible, convert, is_text
    from .profile.tally import read_texts

    arrays, found = {}, dict(kinds)
    for name in table.column_names:
        arrays[name] = table[name]
        if not is_text(table[name].type):
            continue
        present = table[name].drop_null()
        if name not in found and len(present):
            _, kind = read_texts(pa.concat_arrays(present.chunks))
            found[name] = kind or "str"
        kind = found.get(name, "str")
        if kind != "str":
            try:
                typed = convert(table[name], "datetime" if kind == "date" else kind, text=True)
                arrays[name] = typed.cast(pa.date32()) if kind == "date" else typed
            except Unconvertible:
                found[name] = "str"
    return pa.table(arrays), found


def _type(kind: Any) -> str:
    from .convert import kind_of

    found = kind_of(kind)
    return str(kind) if found == "any" else found


def _missing(array: Any) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    nans = pc.sum(pc.is_nan(array)).as_py() if pa.types.is_floating(array.type) else 0
    return int(array.null_count + (nans or 0))


def _values(array: Any) -> list[Any]:
    return [None if value != value else value for value in array.to_pylist()]


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None if value != value else str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else str(value)
