"""Nested columns as plain ones: the field ``c`` of ``b`` of ``a`` is the column ``a.b.c``."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


def flat_names(schema: Any) -> list[str]:
    """The columns that :func:`flatten` makes of a table of this schema."""
    found: list[str] = []
    for field in schema:
        found += _names(field.name, field.type)
    return found


def _names(name: str, kind: Any) -> list[str]:
    if not pa.types.is_struct(kind):
        return [name]
    return [one for position in range(kind.num_fields) for one in _nested(name, kind.field(position))]


def _nested(name: str, field: Any) -> list[str]:
    return _names(f"{name}.{field.name}", field.type)


def flatten(table: Any) -> Any:
    """A table without structs; where a struct is missing, so are all its fields. Lists stay as they are."""
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table
