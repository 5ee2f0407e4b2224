"""The Arrow types that a Delta table can hold, and the nearest one of each that it cannot."""

from __future__ import annotations

from typing import Any

from mealkit.errors import RecipeError


def delta_schema(schema: Any) -> Any:
    """A schema in types that Delta has, each wide enough for the values of the one it stands for.

    Raises:
        RecipeError: a column's type has no counterpart.
    """
    import pyarrow as pa

    return pa.schema([pa.field(field.name, _type(field.type, field.name)) for field in schema])


def _type(kind: Any, name: str) -> Any:
    import pyarrow as pa
    from pyarrow import types

    wider = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.uint64(): pa.int64(),
             pa.float16(): pa.float32(), pa.date64(): pa.date32(), pa.null(): pa.string()}  # fmt: skip
    if kind in wider:
        return wider[kind]
    if types.is_dictionary(kind):
        return _type(kind.value_type, name)
    if types.is_timestamp(kind):
        return pa.timestamp("us", None if kind.tz is None else "UTC")
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_large_binary(kind) or types.is_binary_view(kind) or types.is_fixed_size_binary(kind):
        return pa.binary()
    if types.is_struct(kind):
        return pa.struct([pa.field(field.name, _type(field.type, f"{name}.{field.name}")) for field in kind])
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pa.list_(_type(kind.value_type, name))
    if types.is_map(kind):
        return pa.map_(_type(kind.key_type, name), _type(kind.item_type, name))
    plain = (types.is_boolean, types.is_integer, types.is_floating, types.is_string, types.is_binary, types.is_date)
    if any(test(kind) for test in plain) or types.is_decimal128(kind):
        return kind
    raise RecipeError(
        f"a Delta table cannot hold the type {kind}",
        where=f"column {name}",
        hint="give the column as a number, text, date or time, or write a folder of Parquet files",
    )
