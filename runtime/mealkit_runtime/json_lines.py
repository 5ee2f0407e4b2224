"""Reads files with one JSON object a line; a key that a line lacks is missing there."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mealkit.errors import SchemaError, UnreadableDataError

from .broken_file import UTF8, hint_of, refuse_binary
from .convert import MixedType, json_value
from .data_file import DataFile

if TYPE_CHECKING:
    from .selection import Selection

_ROWS = 20_000
"""Lines of a piece. It does not follow the size of batches, on which no column's type shall depend."""


def read_json(file: DataFile, selection: Selection, piece_rows: int) -> Iterator[tuple[int, Any]]:
    """Pieces of a file with one JSON object a line."""
    flat = selection.query.flatten
    declared = {column.name: column for column in selection.schema.columns}
    lines = _objects(file, flat)
    seen: dict[str, None] = {}
    first = 1
    while rows := list(itertools.islice(lines, _ROWS)):
        for row in rows:
            seen.update(dict.fromkeys(row))
        if first == 1 and (absent := selection.needed(file).difference(seen)):
            seen.update(dict.fromkeys(_later(file, flat, len(rows), absent)))
        if not seen:
            raise SchemaError("no object has a key", where=f"{file.name}, row 1", hint="write each row with its keys")
        names = selection.columns(_columns(seen, rows, flat), file)
        yield first, pa.table({name: _values(rows, name, declared.get(name), file.name, first) for name in names})
        first += len(rows)


def _columns(seen: dict[str, None], rows: list[dict[str, Any]], flat: bool) -> list[str]:
    """What was seen so far, without a nested value that is only missing: its fields are there."""
    names = list(seen)
    if not flat:
        return names
    parents = {name[:place] for name in names for place, char in enumerate(name) if char == "."}
    return [name for name in names if name not in parents or any(row.get(name) is not None for row in rows)]


def _later(file: DataFile, flat: bool, begin: int, absent: set[str]) -> Iterator[str]:
    """Those of the absent names that a row further down has: a column is there if any row has it."""
    left = set(absent)
    for row in itertools.islice(_objects(file, flat), begin, None):
        yield from left & row.keys()
        left -= row.keys()
        if not left:
            return


def _objects(file: DataFile, flat: bool) -> Iterator[dict[str, Any]]:
    with file.text(errors="surrogateescape") as text:
        for number, line in enumerate(text, 1):
            if not line.isspace():
                value = _object(line, number, file)
                yield _flat(value, file, number) if flat else value


def _object(line: str, number: int, file: DataFile) -> dict[str, Any]:
    def wrong(what: str, hint: str = "mend the line") -> UnreadableDataError:
        return UnreadableDataError(f"line {number:,} {what}", where=f"{file.name}, line {number:,}", hint=hint)

    try:
        if not line.isascii():
            line.encode()
        value = json.loads(line)
        if "\\ud" in line.lower():  # half of a pair is no character
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        if error.object is line:
            raise wrong("is not UTF-8", hint_of(file, UTF8)) from None
        raise wrong("has half of a character (a lone surrogate)") from None
    except RecursionError:
        raise wrong("is nested too deep") from None
    except ValueError as error:
        refuse_binary(file, line[:8])
        whole = isinstance(error, json.JSONDecodeError) and number == 1 and line.lstrip()[:1] in ("[", "{")
        hint = "write one JSON object a line (JSON lines), not one document" if whole else "mend the line"
        raise wrong(f"is not JSON: {str(error).partition(';')[0]}", hint) from None
    if not isinstance(value, dict):
        raise wrong("is no JSON object", "write one JSON object a line (JSON lines), not a list")
    return value


def _flat(value: dict[str, Any], file: DataFile, number: int) -> dict[str, Any]:
    """The fields of nested objects under dotted names."""
    if not any(isinstance(one, dict) for one in value.values()):
        return value
    found: dict[str, Any] = {}
    for name, one in value.items():
        fields = {f"{name}.{key}": inner for key, inner in one.items()} if isinstance(one, dict) else {name: one}
        for key, inner in _flat(fields, file, number).items():
            if key in found:
                raise SchemaError(
                    f"the column {key!r} stands twice",
                    where=f"{file.name}, line {number:,}, column {key}",
                    hint="rename one of them",
                )
            found[key] = inner
    return found


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
    odd = next((row for row, value in enumerate(values) if value is not None and type(value) is not good), None)
    if odd is None:
        raise SchemaError(
            f"the column {name!r} holds nested values of several types",
            where=f"{path}, rows {first:,} to {first + len(rows) - 1:,}, column {name}",
            hint="write one type of value under each key; --flatten makes columns of nested ones",
        )
    raise SchemaError(
        f"the column {name!r} is {json.dumps(values[odd])[:40]}, which is of another type than others",
        where=f"{path}, row {first + odd:,}, column {name}",
        hint="write one type of value in a column",
    )
