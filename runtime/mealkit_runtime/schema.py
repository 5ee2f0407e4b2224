"""A dataset's schema: which columns are read of it, and what each must hold."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mealkit.errors import SchemaError
from mealkit.row import Row

from .column import Column, columns_of
from .convert import kind_of
from .likeness import listed, nearest

if TYPE_CHECKING:
    import pandas as pd

    from .check import Check


@dataclass(frozen=True)
class Schema:
    """The columns that are read of a dataset.

    Attributes:
        columns: In the order in which a recipe sees them.
        open: Columns that are not named are read too, after the named ones (the recipe declares no row schema).
        unique: The columns in which no two rows may be alike; empty: rows may repeat.
    """

    columns: tuple[Column, ...] = ()
    open: bool = True
    unique: tuple[str, ...] = ()

    @functools.cached_property
    def checks(self) -> dict[str, Check]:
        """The compiled check of each declared column."""
        from .check import Check

        return {column.name: Check(column) for column in self.columns if column.kind != "any"}

    def wanted(self, present: Sequence[str], where: str) -> list[str]:
        """The columns to read of those that a file has.

        Raises:
            SchemaError: a required one is missing, or a name stands twice.
        """
        there = set(present)
        if len(there) != len(present):
            twice = next(name for name in present if list(present).count(name) > 1)
            raise SchemaError(
                f"the column {twice!r} stands twice", where=f"{where}, column {twice}", hint="rename one of them"
            )
        for column in self.columns:
            if column.required and column.name not in there:
                near = nearest(column.name, present)
                known = f"the file has: {listed(present)}"
                raise SchemaError(
                    f"the column {column.name!r} is missing",
                    where=f"{where}, column {column.name}",
                    hint=f"is it {near!r}? rename that to {column.name!r}" if near else known,
                )
        named = {column.name: None for column in self.columns if column.name in there}
        return [*named, *(name for name in present if name not in named)] if self.open else list(named)

    def without(self, name: str | None) -> Schema:
        """The schema without one column."""
        columns = tuple(column for column in self.columns if column.name != name)
        return Schema(columns, self.open, () if name in self.unique else self.unique)


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
    unique = () if row is None else row.__unique__
    columns = {column.name: column for column in (columns_of(row) if row is not None else ())}
    for name in (*required, *optional):
        columns.setdefault(name, recorded_column(name, seen.get(name), required=name in required))
    if row is not None or recorded is None:
        return Schema(tuple(columns.values()), open=row is None, unique=unique)
    for name, facts in seen.items():
        columns.setdefault(name, recorded_column(name, facts, required=False))
    # The order of the training data: a model may depend on it.
    order = {name: position for position, name in enumerate(seen)}
    ordered = sorted(columns.values(), key=lambda column: order.get(column.name, len(order)))
    return Schema(tuple(ordered), open=False, unique=unique)


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
    """The wanted columns of one table in their declared types; see :meth:`~mealkit_runtime.sieve.Sieve.sift`.

    Raises:
        SchemaError: a value is missing, of the wrong type, or against a rule.
    """
    from .sieve import Sieve

    return Sieve(schema, alone=True).sift(table, where, first_row, text=text)


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
