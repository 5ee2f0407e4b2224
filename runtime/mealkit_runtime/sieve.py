"""Sifts the tables of a dataset: good rows in their declared types pass, and bad ones are told to the ledger."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .bad_row import BadRows, Found
from .check import Broken
from .column import Column
from .convert import ARROW, plain
from .schema import Schema
from .unique import Keys


class Sieve:
    """Sifts one dataset, table by table in order; it remembers the keys that must be unique.

    Args:
        schema: What the dataset must hold.
        bad_rows: What becomes of bad rows; None: the first fails.
        alone: The tables are no parts of one dataset, so rows of two may have one key.
    """

    def __init__(self, schema: Schema, bad_rows: BadRows | None = None, *, alone: bool = False) -> None:
        self.schema = schema
        self.bad_rows = bad_rows or BadRows()
        self.keys = Keys(schema.unique) if schema.unique and not alone else None

    def sift(self, table: Any, where: str, rows: Any = 1, *, text: bool = False) -> Any:
        """The wanted columns of the good rows of a table, in their declared types.

        Args:
            table: An Arrow table.
            where: The file's name, for messages.
            rows: The number of the table's first row in the file, from 1; or the number of each row, where rows were
                left out before.
            text: All values are texts because the format has no types (CSV): undeclared columns are left as they are.

        Raises:
            SchemaError: a column is missing, or a value is missing, of the wrong type or against a rule and the run's
                policy is to fail.
            BadRowsError: there are more bad rows than the run allows.
        """
        arrays: dict[str, Any] = {}
        broken: list[Broken] = []
        for name in self.schema.wanted(table.column_names, where):
            check = self.schema.checks.get(name)
            source = table[name]
            if check is None:
                arrays[name] = source if text else plain(source)
                continue
            if text and check.column.kind == "str" and not check.column.nullable:
                source = pc.fill_null(source, "")  # a text that may not be missing: nothing between the commas is ""
            typed = check.whole(source, text)
            if typed is None:
                typed, found = check.each(source, text)
                broken += found
            arrays[name] = typed
        good = pa.table(self._in_order(arrays, len(table)))
        self.bad_rows.rows_read += len(table)
        if broken:
            keep = self._tell(broken, table, where, rows)
            rows = _numbers(rows, len(table))[keep]
            good, table = good.take(pa.array(keep)), table.take(pa.array(keep))
        if self.keys is not None and len(good):
            again = self.keys.repeated(good, where)
            if again.any():
                name = "+".join(self.keys.columns)
                values = tuple(good[column] for column in self.keys.columns)
                hint = f"rows must differ in {name}: take the repeated ones out"
                keep = self._tell([Broken(name, "unique", _AGAIN, again, hint, values)], table, where, rows)
                good = good.take(pa.array(keep))
        return good

    def _tell(self, broken: list[Broken], table: Any, where: str, rows: Any) -> Any:
        """Tell the ledger of bad rows, each with the first rule that it breaks; the places (numpy) of the good ones."""
        if self.bad_rows.policy == "fail":  # the first column of the schema that has one, not the first row
            broken = broken[:1]
        cause = np.full(len(table), -1)
        for index in reversed(range(len(broken))):
            cause[broken[index].mask] = index
        bad = np.flatnonzero(cause >= 0)
        numbers = _numbers(rows, len(table))[bad]
        self.bad_rows.add(Found(where, table.take(pa.array(bad)), numbers, broken, cause[bad], bad))
        return np.flatnonzero(cause < 0)

    def _in_order(self, arrays: dict[str, Any], length: int) -> dict[str, Any]:
        """The schema's columns, absent ones with their default, then the others."""
        for column in self.schema.columns:
            if column.name not in arrays and not column.required and column.kind != "any":
                if column.default is not None:
                    arrays[column.name] = pa.chunked_array([pa.repeat(_scalar(column), length)])
                elif column.nullable:
                    arrays[column.name] = pa.chunked_array([pa.nulls(length, ARROW[column.kind])])
        return {column.name: arrays[column.name] for column in self.schema.columns if column.name in arrays} | arrays


_AGAIN = "which an earlier row has"


def _numbers(rows: Any, length: int) -> Any:
    return np.arange(rows, rows + length) if isinstance(rows, int) else np.asarray(rows)


def _scalar(column: Column) -> Any:
    value = getattr(column.default, "value", column.default)  # an Enum's member stands for its value
    return pa.scalar(value, ARROW[column.kind])
