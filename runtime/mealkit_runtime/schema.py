"""A dataset's schema: checks and types it piece by piece, vectorised; a bad value is told by file, row and column."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from mealkit.errors import SchemaError
from mealkit.row import Row

from .column import Column, columns_of
from .convert import ARROW, Unconvertible, convert, kind_of, plain

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Schema:
    """The columns that are read of a dataset.

    Attributes:
        columns: In the order in which a recipe sees them.
        open: Columns that are not named are read too, after the named ones (the recipe declares no row schema).
    """

    columns: tuple[Column, ...] = ()
    open: bool = True

    def wanted(self, present: Sequence[str], where: str) -> list[str]:
        """The columns to read of those that a file has.

        Raises:
            SchemaError: a required one is missing, or a name stands twice.
        """
        if len(set(present)) != len(present):
            twice = next(name for name in present if list(present).count(name) > 1)
            raise SchemaError(
                f"the column {twice!r} stands twice", where=f"{where}, column {twice}", hint="rename one of them"
            )
        for column in self.columns:
            if column.required and column.name not in present:
                near = difflib.get_close_matches(column.name, present, n=1, cutoff=0.5) or [
                    name for name in present if name.lower() == column.name.lower()
                ]
                known = ", ".join(list(present)[:20]) + (", …" if len(present) > 20 else "")
                raise SchemaError(
                    f"the column {column.name!r} is missing",
                    where=f"{where}, column {column.name}",
                    hint=f"is it {near[0]!r}? rename that to {column.name!r}" if near else f"the file has: {known}",
                )
        named = [column.name for column in self.columns if column.name in present]
        return [*named, *(name for name in present if name not in named)] if self.open else named

    def without(self, name: str | None) -> Schema:
        """The schema without one column."""
        return Schema(tuple(column for column in self.columns if column.name != name), self.open)


def schema_of(
    row: type[Row] | None,
    required: Sequence[str] = (),
    optional: Sequence[str] = (),
    recorded: Mapping[str, Any] | None = None,
) -> Schema:
    """The schema of a dataset: what the recipe's row schema declares, and columns that are needed beside it.

    Args:
        row: The declared row schema; None: every column is read.
        required: Further columns that must be there.
        optional: Further columns that are read if they are there (keys, which ``prepare`` may also make).
        recorded: The types that training saw (:func:`describe_columns`) of columns that no schema declares.
    """
    seen = dict(recorded or {})
    columns = {column.name: column for column in (columns_of(row) if row is not None else ())}
    for name in (*required, *optional):
        columns.setdefault(name, recorded_column(name, seen.get(name), required=name in required))
    if row is not None or recorded is None:
        return Schema(tuple(columns.values()), open=row is None)
    for name, facts in seen.items():
        columns.setdefault(name, recorded_column(name, facts, required=False))
    # The order of the training data: a model may depend on it.
    order = {name: position for position, name in enumerate(seen)}
    ordered = sorted(columns.values(), key=lambda column: order.get(column.name, len(order)))
    return Schema(tuple(ordered), open=False)


def recorded_column(name: str, facts: Any, *, required: bool) -> Column:
    """A column of which only the type that training saw is known."""
    if not isinstance(facts, Mapping):
        return Column(name, required=required)
    return Column(name, kind=str(facts["kind"]), nullable=bool(facts["nullable"]), required=required)


def describe_columns(table: Any) -> dict[str, dict[str, object]]:
    """The types of a table's columns, to be recorded with a model: ``{name: {"kind": …, "nullable": …}}``."""
    return {
        field.name: {
            "kind": kind_of(field.type),
            # An integer column that never missed a value is int64 in pandas, and must be so again when scoring.
            "nullable": kind_of(field.type) not in ("int", "bool") or table[field.name].null_count > 0,
        }
        for field in table.schema
    }


def conform(table: Any, schema: Schema, where: str, first_row: int = 1, *, text: bool = False) -> Any:
    """The wanted columns of a table in their declared types, checked.

    Args:
        table: An Arrow table.
        schema: What it must hold.
        where: The file's name, for messages.
        first_row: The number of the table's first row in the file, from 1.
        text: All values are texts because the format has no types (CSV): undeclared columns are left as they are.

    Raises:
        SchemaError: a value is missing, of the wrong type, or against a rule.
    """
    named = {column.name: column for column in schema.columns}
    arrays: dict[str, Any] = {}
    for name in schema.wanted(table.column_names, where):
        column = named.get(name, Column(name))
        if column.kind == "any":
            arrays[name] = table[name] if text else plain(table[name])
            continue
        source = table[name]
        if text and column.kind == "str" and not column.nullable:
            source = pc.fill_null(source, "")  # a text that may not be missing: nothing between the commas is ""
        arrays[name] = _checked(source, column, where, first_row, text)
    for column in schema.columns:
        if column.name not in arrays and not column.required and column.kind != "any" and column.default is not None:
            arrays[column.name] = pa.chunked_array([pa.repeat(_scalar(column), len(table))])
        elif column.name not in arrays and not column.required and column.nullable and column.kind != "any":
            arrays[column.name] = pa.chunked_array([pa.nulls(len(table), ARROW[column.kind])])
    ordered = {column.name: arrays[column.name] for column in schema.columns if column.name in arrays}
    return pa.table({**ordered, **arrays})


def _scalar(column: Column) -> Any:
    value = getattr(column.default, "value", column.default)  # an Enum's member stands for its value
    return pa.scalar(value, ARROW[column.kind])


def _checked(array: Any, column: Column, where: str, first_row: int, text: bool) -> Any:
    try:
        typed = convert(array, column.kind, text=text)
    except Unconvertible as error:
        raise _bad(
            column, where, first_row + error.row, f"is {_show(error.value)}, which is not {column.article}"
        ) from None
    if column.kind == "float" and typed.null_count == 0 and pc.any(pc.is_nan(typed)).as_py():
        typed = pc.if_else(pc.is_nan(typed), pa.scalar(None, pa.float64()), typed)
    if not column.nullable and typed.null_count:
        row = first_row + pc.index(pc.is_null(typed), True).as_py()
        raise _bad(column, where, row, "is missing", f"fill it, or declare {column.name}: … | None in the row schema")
    for mask, rule in _violations(typed, column):
        row = pc.index(mask, True).as_py()
        if row >= 0:
            value = typed[row].as_py()
            raise _bad(column, where, first_row + row, f"is {_show(value)}, but must {rule}")
    return typed


def _violations(array: Any, column: Column) -> Any:
    """``(mask, rule in words)`` of each declared rule; the mask is true where a value breaks it."""
    if column.choices is not None:
        allowed = pa.array(column.choices, ARROW[column.kind])
        listed = ", ".join(map(str, column.choices))
        yield pc.and_(pc.is_valid(array), pc.invert(pc.is_in(array, allowed))), f"be one of {listed}"
    for name, breaks, words in (
        ("ge", pc.less, "≥"),
        ("gt", pc.less_equal, ">"),
        ("le", pc.greater, "≤"),
        ("lt", pc.greater_equal, "<"),
    ):
        bound = getattr(column, name)
        if bound is not None:
            yield breaks(array, _bound(bound, column)), f"be {words} {bound}"
    if column.multiple_of is not None:
        quotient = pc.divide(array.cast(pa.float64()), float(column.multiple_of))
        yield pc.not_equal(quotient, pc.round(quotient)), f"be a multiple of {column.multiple_of}"
    if column.kind == "str":
        if column.min_length is not None:
            yield pc.less(pc.utf8_length(array), column.min_length), f"have at least {column.min_length} characters"
        if column.max_length is not None:
            yield pc.greater(pc.utf8_length(array), column.max_length), f"have at most {column.max_length} characters"
        if column.pattern is not None:
            yield pc.invert(pc.match_substring_regex(array, column.pattern)), f"match {column.pattern}"


def _bound(bound: Any, column: Column) -> Any:
    """A bound in a type that compares with the column's without rounding it."""
    if column.kind == "int":
        return pa.scalar(bound, pa.int64() if float(bound).is_integer() else pa.float64())
    if column.kind in ("date", "datetime") and getattr(bound, "tzinfo", None) is not None:
        import datetime as dt

        bound = bound.astimezone(dt.UTC).replace(tzinfo=None)
    return pa.scalar(bound, ARROW[column.kind])


def _bad(column: Column, where: str, row: int, what: str, hint: str | None = None) -> SchemaError:
    kind = column.article + (" or missing" if column.nullable else "")
    return SchemaError(
        f"the column {column.name!r} {what}",
        where=f"{where}, row {row:,}, column {column.name}",
        hint=hint or f"it is declared as {kind}; mend the data, or the row schema",
    )


def _show(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = f"{text[:40]}…" if len(text) > 40 else text
    return repr(text) if isinstance(value, str) else str(value) if hasattr(value, "isoformat") else text


def to_frame(table: Any, schema: Schema) -> pd.DataFrame:
    """A conformed table as a pandas frame whose types depend on the schema alone."""
    import pandas as pd

    nullable = {
        column.name: pd.Int64Dtype() if column.kind == "int" else pd.BooleanDtype()
        for column in schema.columns
        if column.nullable and column.kind in ("int", "bool") and column.name in table.column_names
    }
    if not nullable:
        frame: pd.DataFrame = table.to_pandas()
        return frame
    frame = table.drop_columns(list(nullable)).to_pandas()
    for name in table.column_names:
        if name in nullable:
            kind = nullable[name]
            series = table[name].to_pandas(types_mapper={pa.int64(): kind, pa.bool_(): kind}.get)
            frame.insert(table.column_names.index(name), name, series)
    return frame
